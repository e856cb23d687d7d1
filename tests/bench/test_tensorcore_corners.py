"""Corners of the tensor-core kernels on the PTX machine: sums beyond int32; a kernel right by luck."""

import re

import numpy as np
import pytest

import bench
from bench.faults import Fault
from kernels.tensorcore.dense import dense_primfunc, schedule_dense
from tests.bench.integer_graphs import dense, full_range
from tests.kernels.tensorcore_reference import pack, wrap

# The smallest depths, in steps of 16, at which a sum of the largest products leaves int32.
LIMITS = {
    "uint8, greatest by greatest": ("uint8", 255, 255, 33040),
    "int8, least by least": ("int8", -128, -128, 131072),
    "int8, least by greatest": ("int8", -128, 127, 132112),
}
QUICK = "uint8, greatest by greatest"


@pytest.mark.parametrize(
    ("dtype", "datum", "weight", "depth"),
    [
        pytest.param(*case, id=name, marks=() if name == QUICK else pytest.mark.slow)
        for name, case in LIMITS.items()
    ],
)
@pytest.mark.parametrize(
    "over", [pytest.param(False, marks=pytest.mark.slow), True], ids=["below", "at the limit"]
)
def test_sums_wrap_where_they_leave_int32(
    dtype: str, datum: int, weight: int, depth: int, over: bool
) -> None:
    depth -= 0 if over else 16
    exact = depth * datum * weight
    assert (not -(2**31) <= exact < 2**31) == over
    data, weights = np.full((8, depth), datum, dtype), np.full((32, depth), weight, dtype)
    verdict = bench.verify(
        schedule_dense(dense_primfunc((8, depth), units=32, dtype=dtype, weight_dtype=dtype)),
        lambda *_: wrap(np.full((8, 32), exact)),
        inputs=[data, pack(weights, dtype)],
        instruction="wmma.mma",
    )
    assert (verdict.verdict, verdict.reason) == ("exact", None)


def without_barriers(files: dict[str, bytes]) -> dict[str, bytes]:
    """The kernels without the barriers between a block's stores to shared memory and its loads."""
    edited = {
        name: re.sub(rb"(?m)^\s*(?:bar|barrier)\S*sync\s.*$", b"", text) for name, text in files.items()
    }
    assert edited != files
    return edited


def test_a_kernel_that_is_right_and_races_is_a_hazard() -> None:
    """The machine runs a block's warps in lockstep, so that the numbers are right without barriers, too."""
    data = full_range(np.random.default_rng(3), (16, 128), "int8")
    fault = Fault("no-barriers", "tensorcore", "PTX: no barriers", machine=without_barriers)
    verdict = bench.run(dense(16, 128, 64), data, "tensorcore", fault=fault)
    assert verdict.verdict == "hazard"
    assert verdict.reason == "the numbers agree, but the machine found errors"
    assert verdict.mismatch is None
    assert {finding.kind for finding in verdict.findings} == {"race"}
    assert all("PTX line" in finding.where for finding in verdict.findings)
