"""A device's process is of this bitexact, wherever it is started."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.devices.interpreter import module_command
from bench.devices.kernel_process import KernelProcess
from bench.flows.flow import flow_for
from kernels.vta.dense import dense

SHAPES = ((4, 1, 1, 16), (1, 1, 16, 16))


@pytest.mark.parametrize("package", ["bench", "kernels", "simulators"])
def test_packages_of_the_current_folder_are_not_taken(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / package / "__init__.py"
    theirs.parent.mkdir()
    theirs.write_text("raise RuntimeError('this is somebody else')\n")
    monkeypatch.chdir(tmp_path)
    files = flow_for("vta").compile({"kernel": dense(*SHAPES, epilogue=[("max", -128), ("min", 127)])})
    with KernelProcess("vta", files, seconds=60) as process:
        output = np.zeros(SHAPES[0], np.int8)
        report = process.call("kernel", [np.ones(shape, np.int8) for shape in SHAPES], output)
    assert report.counters["tensor_instructions"] == 4
    assert np.all(output == 16)


def test_arguments_are_those_of_the_module(tmp_path: Path) -> None:
    command = module_command("bench.cli", "list", "--json", str(tmp_path / "no" / "folder.json"))
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.stdout.startswith("workload")
    assert command[0] == sys.executable
