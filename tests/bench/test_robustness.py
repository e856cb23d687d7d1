"""Ways for the bench itself to fail: each ends in a clear line, and leaves no process and no half file."""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import tvm

import bench
from bench import bundles as bundling
from bench.cli import main
from bench.devices import execution
from bench.reports import json_file
from bench.whole_file import CannotWrite, write_whole
from tests.bench.other_qemu import replace_qemu
from tests.bench.served import ROOT
from tests.bench.test_execution import needs_qemu


def bitexact(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """The command, in a process."""
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "bench", *arguments],
        capture_output=True,
        text=True,
        check=False,
        **{"env": environment(), "cwd": ROOT, **options},
    )


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **changes}


# ---- a full disk ----


def test_a_file_is_there_as_a_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_whole(path, "first")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(CannotWrite, match=r"report\.json: File too large"):
            write_whole(path, "x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_file_keeps_its_mode_and_a_new_one_has_that_of_any(tmp_path: Path) -> None:
    plain, kept = tmp_path / "plain", tmp_path / "kept"
    plain.write_text("")
    kept.write_text("")
    kept.chmod(0o640)
    for path in (kept, tmp_path / "new"):
        write_whole(path, b"content")
    assert kept.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "new").stat().st_mode == plain.stat().st_mode


COMMANDS = {
    "run": ["run", "digits", "--target", "vta", "--json"],
    "list": ["list", "--json"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_report_on_a_full_disk_is_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMANDS[command], "/dev/full"]) == 2
    assert capsys.readouterr().err == f"bitexact {command}: /dev/full: No space left on device\n"


@pytest.mark.slow
def test_a_run_on_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """A limit of 4 kB for each file stands for a full disk; LLVM meets it first, and ends the process."""
    outcome = bitexact(
        *("run", "digits", "--target", "vta", "--batch", "8", "--bundles", "none"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
        env=environment(TMPDIR=str(tmp_path)),
    )
    assert outcome.returncode in (1, 2)
    assert outcome.stderr.count("\n") == 1
    assert "File too large" in outcome.stderr
    assert "exact" not in outcome.stdout


def test_no_space_for_a_temporary_file_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(execution, "_attempt", full)
    assert main(["run", "digits", "--target", "vta", "--batch", "8", "--bundles", "none"]) == 2
    where = f"a temporary file in {tempfile.gettempdir()}"
    assert capsys.readouterr().err == f"bitexact run: {where}: No space left on device\n"


# ---- Ctrl-C ----


@needs_qemu
def test_an_interrupted_run_keeps_what_it_has_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VTA's case ends, and in Hexagon's a simulator hangs that has said that it runs."""
    fifo, report = tmp_path / "fifo", tmp_path / "report.json"
    os.mkfifo(fifo)
    (tmp_path / "path").mkdir()
    (tmp_path / "tmp").mkdir()
    replace_qemu(f"echo $$ > {fifo}; exec sleep infinity", tmp_path / "path", monkeypatch)
    command = ["run", "digits", "--target", "vta,hexagon", "--batch", "8", "--json", str(report)]
    with subprocess.Popen(
        [sys.executable, "-m", "bench", *command],
        cwd=ROOT,
        env=environment(TMPDIR=str(tmp_path / "tmp")),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        simulator = os.pidfd_open(int(fifo.read_text()))
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert select.select([simulator], [], [], 30)[0], "the simulator is left"
    os.close(simulator)
    assert said == "bitexact run: interrupted after 1 of 2 cases\n"
    assert "exact" in next(line for line in printed.splitlines() if line.startswith("vta"))
    run = json_file.read(report)
    assert not run.complete
    assert [(verdict.target, verdict.verdict) for verdict in run.verdicts] == [("vta", "exact")]
    assert [name for name in os.listdir(tmp_path / "tmp") if name.startswith("bitexact-")] == []


# ---- two runs at once ----


@pytest.mark.slow
def test_two_runs_in_the_same_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Both write the same report, keep a bundle of the same name, and start with the same empty cache."""
    command = [
        *(sys.executable, "-m", "bench", "run", "digits", "--target", "vta", "--batch", "8"),
        *("--inject", "vta-skip-gemm-uop", "--json", "report.json", "--bundles", "bundles"),
    ]
    both = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment(XDG_CACHE_HOME=str(tmp_path / "cache")),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in both:
        printed, said = process.communicate(timeout=280)
        assert process.returncode == 1, said
        assert "mismatch" in printed
        assert said == ""
    run = json_file.read(tmp_path / "report.json")
    assert run.complete
    assert [verdict.verdict for verdict in run.verdicts] == ["mismatch"]
    bundles = sorted((tmp_path / "bundles").iterdir())
    assert len(bundles) == 2
    for bundle in bundles:
        assert bundling.read(bundle).target == "vta"
    assert {each.name for each in tmp_path.iterdir()} <= {"report.json", "bundles", "cache"}


# ---- malformed ----


def test_a_model_without_a_main_function_is_an_error() -> None:
    with pytest.raises(ValueError, match="main"):
        bench.run(tvm.IRModule(), {}, "vta")


def test_a_report_that_is_cut_short_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    json_file.write(tmp_path / "run.json", [])
    content = (tmp_path / "run.json").read_text()
    (tmp_path / "run.json").write_text(content[: len(content) // 2])
    for command in (
        ["report", str(tmp_path / "run.json"), "-o", str(tmp_path / "report.html")],
        ["baseline", "save", str(tmp_path / "run.json"), "-o", str(tmp_path / "base.json")],
    ):
        assert main(command) == 2
        assert f"{tmp_path / 'run.json'}: no JSON" in capsys.readouterr().err


def test_a_report_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"format": 99, "verdicts": []}))
    with pytest.raises(ValueError, match=r"run\.json: format 99 is not supported: 1 is"):
        json_file.read(tmp_path / "run.json")
