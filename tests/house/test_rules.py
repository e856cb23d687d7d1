"""The rules of the house: who imports whom, lint, format and types."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CHECKS = {
    "imports": ["lint-imports", "--no-cache"],
    "lint": ["ruff", "check", "--no-cache"],
    "format": ["ruff", "format", "--check", "--no-cache"],
    "types": ["mypy", "--no-error-summary"],
}


@pytest.mark.parametrize("check", CHECKS)
def test_rule_is_kept(check: str) -> None:
    program, *options = CHECKS[check]
    command = [str(Path(sys.executable).with_name(program)), *options]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("simulators/vta/config.py", "import tvm"),
        ("simulators/vta/config.py", "import bench"),
        ("kernels/hexagon/build.py", "import bench.layout"),
        ("kernels/hexagon/build.py", "import simulators.hvx"),
    ],
    ids=[
        "simulator-imports-tvm",
        "simulator-imports-bench",
        "kernel-imports-bench",
        "kernel-imports-simulator",
    ],
)
def test_forbidden_import_is_found(where: str, line: str, tmp_path: Path) -> None:
    """The contracts can fail: the same houses with one forbidden import."""
    subprocess.run(
        ["cp", "-r", "bench", "kernels", "simulators", "pyproject.toml", str(tmp_path)], cwd=ROOT, check=True
    )
    edited = tmp_path / where
    edited.write_text(edited.read_text() + f"\n{line}\n")
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    outcome = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(tmp_path)}
    )
    assert outcome.returncode == 1, outcome.stdout + outcome.stderr
    assert "BROKEN" in outcome.stdout
