"""What `pip install` of the project brings along: everything that is needed, and the plugin's entry point."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOUSES = ("bench", "kernels", "simulators")
METADATA = ("pyproject.toml", "README.md", "LICENSE")
OLDEST_SETUPTOOLS = 77  # as pyproject.toml asks for, and requirements.lock has


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel of the sources, built from a copy: a build leaves its traces beside them."""
    if int(version("setuptools").partition(".")[0]) < OLDEST_SETUPTOOLS:
        pytest.skip(f"setuptools {version('setuptools')} cannot build it: pip install -r requirements.lock")
    folder = tmp_path_factory.mktemp("wheel")
    for house in HOUSES:
        shutil.copytree(ROOT / house, folder / house, ignore=shutil.ignore_patterns("__pycache__"))
    for name in METADATA:
        shutil.copy(ROOT / name, folder)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", "."]
    command = [sys.executable, "-m", "pip", "wheel", *options, "."]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_has_every_file(wheel: zipfile.ZipFile) -> None:
    sources = {
        str(path.relative_to(ROOT))
        for house in HOUSES
        for path in (ROOT / house).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "bench/workloads/digits/digits.npz" in sources
    assert "kernels/hexagon/runtime/server.c" in sources
    assert sources - set(wheel.namelist()) == set()


def test_the_wheel_declares_the_command_and_the_plugin(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    declared = ConfigParser()
    declared.read_string(wheel.read(name).decode())
    assert declared["console_scripts"]["bitexact"] == "bench.cli:main"
    assert declared["pytest11"]["bitexact"] == "bench.pytest_plugin.plugin"
