"""Somebody's repository in a folder of its own, with tests that use the plugin."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import pytest

# What a run of pytest within this process imports has to be there before: pytester forgets it afterwards,
# and TVM takes no operator twice.
for needed in (
    "bench.bundles",
    "bench.commands.replay",
    "bench.pipeline",
    "bench.reports.table",
    "bench.verification.verify",
    "bench.workload_run",
    "kernels.vta.dense",
    "kernels.vta.tensorir",
    "tests.bench.integer_graphs",
):
    import_module(needed)

ROOT = Path(__file__).parents[2]
INSTALLED = "bitexact" in entry_points(group="pytest11").names
LOAD = ("-p", "no:hypothesispytest", *(() if INSTALLED else ("-p", "bench.pytest_plugin.plugin")))
ZIG_CACHE = Path(os.environ.get("ZIG_GLOBAL_CACHE_DIR", Path.home() / ".cache" / "zig"))

VTA_KERNELS = """
import numpy as np
import pytest
from kernels.vta.dense import dense
from kernels.vta.tensorir import dense_primfunc

SHAPES = ((4, 1, 1, 16), (1, 1, 16, 16))
EPILOGUE = [("shr", 8), ("min", 127), ("max", -128)]
KERNEL = dense(*SHAPES, epilogue=EPILOGUE)
REFERENCE = dense_primfunc(*SHAPES, epilogue=EPILOGUE)

def wrong(data, weight):
    return np.full((4, 1, 1, 16), 3, np.int8)
"""


def vta_tests(body: str) -> str:
    """The text of a test file that has a kernel for VTA, its reference and a wrong one."""
    return f"{VTA_KERNELS}\n{body}"


def run_here(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run pytest in this process: fast, as TVM is here already."""
    with surroundings():
        return pytester.runpytest_inprocess(*LOAD, *arguments)


def run_apart(pytester: pytest.Pytester, *arguments: str, seconds: float = 120) -> pytest.RunResult:
    """Run pytest in a process of its own, as a user does."""
    with surroundings():
        return pytester.runpytest_subprocess(*LOAD, *arguments, timeout=seconds)


@contextmanager
def surroundings() -> Iterator[None]:
    """The environment of a user, in which bitexact can be imported, and with the compilers' caches."""
    with pytest.MonkeyPatch.context() as patch:
        path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        patch.setenv("PYTHONPATH", os.pathsep.join(path))
        patch.setenv("ZIG_GLOBAL_CACHE_DIR", str(ZIG_CACHE))
        for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
            patch.delenv(name)
        yield
