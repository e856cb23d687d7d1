"""Workers of pytest-xdist: the same results from any number of them, and no crash or hang stops the run."""

import json
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import psutil
import pytest

from bench.pytest_plugin.case import case_of
from tests.pytest_plugin.repository import run_apart, run_here, vta_tests
from tests.simulators.hvx_guest import needs_qemu

DRAWS = """
import pytest

@pytest.mark.parametrize("number", range(6))
def test_draw(bitexact, number, record_property):
    record_property("drawn", bitexact.rng().integers(0, 1 << 62, 4).tolist())

def test_kernel(bitexact, record_property):
    from kernels.vta.dense import dense
    from kernels.vta.tensorir import dense_primfunc

    shapes = ((4, 1, 1, 16), (1, 1, 16, 16))
    epilogue = [("shr", 8), ("min", 127), ("max", -128)]

    def wrong(data, weight):
        record_property("operands", int(data.astype("int64").sum() * 1000 + weight.sum()))
        return -data

    bitexact.verify(dense(*shapes, epilogue=epilogue), dense_primfunc(*shapes, epilogue=epilogue), "vta")
    bitexact.verify(dense(*shapes, epilogue=epilogue), wrong, "vta")
"""


def results(log: Path) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Outcome and properties of every test in a JUnit XML file, but for seconds and temporary folders."""
    found = {}
    for test in ElementTree.parse(log).iter("testcase"):
        outcome = ",".join(sorted(child.tag for child in test if child.tag != "properties"))
        properties = [(each.get("name", ""), each.get("value", "")) for each in test.iter("property")]
        kept = [(name, value) for name, value in properties if not name.endswith((".seconds", ".bundle"))]
        found[test.get("name", "")] = (outcome, kept)
    return found


def run_with(workers: str, pytester: pytest.Pytester, *arguments: str):  # type: ignore[no-untyped-def]
    log = pytester.path / f"log{workers}.xml"
    run_apart(pytester, "-n", workers, "--junit-xml", str(log), "--bitexact-seed", "3", *arguments)
    return results(log)


def test_any_number_of_workers_draws_the_same(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(DRAWS)
    runs = {workers: run_with(workers, pytester, "-k", "test_draw") for workers in ("0", "1", "3")}
    assert len(runs["0"]) == 6
    draws = {dict(properties)["drawn"] for _, properties in runs["0"].values()}
    assert len(draws) == 6
    assert runs["0"] == runs["1"] == runs["3"]


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_verdicts(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(DRAWS)
    runs = {workers: run_with(workers, pytester) for workers in ("0", "1", "3")}
    outcome, kernel = runs["0"]["test_kernel"]
    assert outcome == "failure"
    assert dict(kernel)["bitexact#2.verdict"] == "mismatch"
    assert int(dict(kernel)["operands"]) != 0
    assert runs["0"] == runs["1"] == runs["3"]


def test_a_test_alone_draws_what_it_draws_among_others(pytester: pytest.Pytester) -> None:
    path = pytester.makepyfile(test_draws=DRAWS)
    logs = [pytester.path / name for name in ("all.xml", "one.xml", "other-seed.xml")]
    run_here(pytester, "-k", "draw", "--junit-xml", str(logs[0]))
    run_here(pytester, f"{path.name}::test_draw[4]", "--junit-xml", str(logs[1]))
    run_here(pytester, "-k", "draw", "--junit-xml", str(logs[2]), "--bitexact-seed", "1")
    everything, alone, other = map(results, logs)
    assert alone == {"test_draw[4]": everything["test_draw[4]"]}
    assert not set(map(str, everything.values())) & set(map(str, other.values()))


def test_a_random_seed_is_one_for_all_workers_and_is_shown(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_draw(bitexact, number, record_property):
            record_property("seed", bitexact.session_seed)
    """)
    log = pytester.path / "log.xml"
    result = run_apart(pytester, "-n", "2", "--bitexact-seed", "random", "--junit-xml", str(log))
    (seed,) = {dict(properties)["seed"] for _, properties in results(log).values()}
    assert int(seed) > 0
    result.stdout.fnmatch_lines([f"bitexact: seed {seed}, device sim"])


def test_a_group_of_xdist_is_no_part_of_the_case(request: pytest.FixtureRequest) -> None:
    """With ``--dist loadgroup`` it appends the group to what older versions of pytest give as the id."""
    grouped = SimpleNamespace(
        nodeid=f"{request.node.nodeid}@together", name=request.node.name, parent=request.node.parent
    )
    assert case_of(grouped) == case_of(request.node) == request.node.nodeid


def test_a_single_device_is_used_by_one_worker_at_a_time(pytester: pytest.Pytester) -> None:
    """Two workers meet at a barrier and then ask for the same server; each notes when it had it."""
    pytester.makepyfile("""
        import json, os, time
        from pathlib import Path
        import pytest
        from bench.artifact import Artifact
        from bench.devices import execution

        HERE = Path(__file__).parent

        @pytest.mark.parametrize("number", range(2))
        def test_use(number, monkeypatch):
            def work(*_):
                begun = time.monotonic()
                time.sleep(0.5)
                (HERE / f"{number}.json").write_text(json.dumps([begun, time.monotonic()]))
                raise KeyboardInterrupt

            monkeypatch.setattr(execution, "_work", work)
            (HERE / f"{number}.here").touch()
            while len(list(HERE.glob("*.here"))) < 2:
                time.sleep(0.01)
            with pytest.raises(KeyboardInterrupt):
                execution.execute(Artifact("vta", (), (), (), b""), {}, device="rpc://127.0.0.1:9")
    """)
    run_apart(pytester, "-n", "2", seconds=60).assert_outcomes(passed=2)
    spans = sorted(json.loads(path.read_text()) for path in pytester.path.glob("*.json"))
    (_, first_ended), (second_began, _) = spans
    assert first_ended <= second_began


# The probe of what a QEMU runs is let through: it is far smaller than a function server.
HANGING_QEMU = f"""#!/bin/sh
if [ $(wc -c < "$1") -lt 5000 ]; then exec {shutil.which("qemu-hexagon")} "$@"; fi
while :; do sleep 1; done
"""
UNRULY = vta_tests("""
import os
import signal
import threading
from kernels.hexagon.dense import dense_primfunc as hexagon_dense
from kernels.hexagon.dense import schedule_dense

BLOCK = hexagon_dense((4, 32), (1, 8, 32, 4))

@pytest.mark.parametrize("number", range(3))
def test_good(bitexact, number):
    bitexact.verify(KERNEL, REFERENCE, "vta")

def test_simulator_hangs(bitexact):
    bitexact.verify(schedule_dense(BLOCK), BLOCK, "hexagon", timeout=2)

@pytest.mark.timeout(4)
def test_simulator_hangs_longer_than_the_test_may(bitexact):
    bitexact.verify(schedule_dense(BLOCK), BLOCK, "hexagon", timeout=500)

def test_worker_is_killed(bitexact):
    threading.Timer(2.5, os.kill, (os.getpid(), signal.SIGKILL)).start()
    bitexact.verify(schedule_dense(BLOCK), BLOCK, "hexagon", timeout=500)
""")


@needs_qemu
def test_a_hanging_simulator_and_a_killed_worker_do_not_stop_the_run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(UNRULY)
    qemu = pytester.path / "bin" / "qemu-hexagon"
    qemu.parent.mkdir()
    qemu.write_text(HANGING_QEMU)
    qemu.chmod(0o755)
    monkeypatch.setenv("PATH", str(qemu.parent), prepend=":")
    result = run_apart(pytester, "-n", "2", seconds=100)
    result.assert_outcomes(passed=3, failed=3)
    result.stdout.fnmatch_lines_random(
        [
            "E *hexagon on sim: timeout, in phase run",
            "E *Failed: Timeout (>4.0s) from pytest-timeout.",
            "worker 'gw?' crashed while running *::test_worker_is_killed'",
        ]
    )
    deadline = time.monotonic() + 10
    while processes_of(qemu) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not processes_of(qemu)


def processes_of(program: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(program) in (process.info["cmdline"] or ()) or _runs_in(process, program.parent)
    ]


def _runs_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.environ().get("PATH", "").startswith(f"{folder}:")
    except (psutil.Error, OSError):
        return False
