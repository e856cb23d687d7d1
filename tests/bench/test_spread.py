"""Several cases at once: each has its process, none is left, and one that dies does not end the others."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.spread import CaseDied, spread
from tests.bench.served import ROOT

Hear = Callable[[str], None]


def double(case: int, hear: Hear) -> int:
    hear(f"doubling {case}")
    return 2 * case


def die_on_two(case: int, hear: Hear) -> int:
    if case == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return double(case, hear)


def refuse_two(case: int, hear: Hear) -> int:
    if case == 2:
        raise ValueError("two is refused")
    return double(case, hear)


def test_all_cases_are_run_and_heard_of() -> None:
    heard: list[tuple[int, str]] = []
    results = dict(spread(double, [1, 2, 3], jobs=2, hear=lambda number, step: heard.append((number, step))))
    assert results == {0: 2, 1: 4, 2: 6}
    assert sorted(heard) == [(0, "doubling 1"), (1, "doubling 2"), (2, "doubling 3")]


def test_a_case_whose_process_dies_does_not_end_the_others() -> None:
    results = dict(spread(die_on_two, [1, 2, 3], jobs=2))
    assert (results[0], results[2]) == (2, 6)
    assert isinstance(results[1], CaseDied)
    assert str(results[1]) == "the process of the case ended without a result (killed by SIGKILL)"


def test_an_error_is_raised_as_it_was() -> None:
    with pytest.raises(ValueError, match="two is refused"):
        dict(spread(refuse_two, [1, 2, 3], jobs=2))


# A case that has started a device's process, which stays for ever.
ENDLESS = """
import subprocess, sys
from bench.devices.ending import end_group
from bench.spread import spread

def endless(case, hear):
    process = subprocess.Popen(["sleep", "infinity"], start_new_session=True)
    try:
        hear(str(process.pid))
        process.wait()
    finally:
        end_group(process)

if __name__ == "__main__":
    for _ in spread(endless, [0, 1], jobs=2, hear=lambda number, step: print(step, flush=True)):
        pass
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name)
def test_nothing_is_left_when_it_is_ended(how: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "endless.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    ) as process:
        assert process.stdout is not None
        devices = [os.pidfd_open(int(process.stdout.readline())) for _ in range(2)]
        process.send_signal(how)
        assert process.wait(60) != 0
    for device in devices:
        assert select.select([device], [], [], 30)[0]
        os.close(device)
