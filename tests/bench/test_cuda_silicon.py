"""The tensor-core kernels on a GPU: skipped where there is none (docs/cuda.md)."""

from __future__ import annotations

import numpy as np
import pytest

import bench
from bench.devices import counters
from bench.devices.cuda.probe import probe
from bench.faults import FAULTS
from tests.bench.integer_graphs import ConvCase, convolution, full_range
from tests.bench.tensorcore_proof import CASES


@pytest.fixture(scope="module")
def gpu() -> str:
    """What the GPU is; skips where there is none."""
    found = probe()
    if found.hardware is None:
        pytest.skip(str(found.missing))
    return found.hardware


@pytest.mark.parametrize("name", CASES)
def test_a_gpu_computes_what_the_models_do(name: str, gpu: str) -> None:
    verdict = CASES[name]("cuda")
    assert (verdict.verdict, verdict.reason) == ("exact", None)
    assert verdict.findings == []
    assert verdict.hardware == gpu
    assert verdict.counters[counters.IN_CODE] > 0


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.target == "tensorcore"])
def test_a_gpu_shows_a_planted_fault(name: str, gpu: str) -> None:
    """Kernels that are wrong are wrong there too, so that exact says something."""
    module = convolution(ConvCase(batch=8, inputs=16, outputs=32, size=8))
    data = full_range(np.random.default_rng(3), (8, 16, 8, 8), "int8")
    verdict = bench.run(module, data, "tensorcore", "cuda", fault=FAULTS[name])
    assert verdict.verdict == "mismatch"
    assert verdict.hardware == gpu
