"""Faults planted in real machine code change what QEMU computes, and say when there is nothing to change."""

import numpy as np
import pytest

from kernels.faults import FaultNotPlanted
from kernels.hexagon import toolchain
from kernels.hexagon.build import build_elf
from kernels.hexagon.conv2d import conv2d_primfunc, schedule_conv2d
from kernels.hexagon.dense import dense_primfunc, schedule_dense
from kernels.hexagon.faults import FAULTS, drop_accumulate, other_signedness
from kernels.hexagon.machine_code import find_vrmpy
from simulators.hvx.qemu import FunctionServer
from tests.simulators.hvx_guest import needs_qemu, needs_toolchain

pytestmark = [needs_toolchain]

DENSE = ((8, 256), (1, 64, 32, 4))
CONV = {"data_shape": (2, 2, 4, 4, 32), "weight_shape": (1, 2, 3, 3, 8, 32, 4), "padding": (1, 1, 1, 1)}


@pytest.fixture(scope="module")
def signed() -> bytes:
    conv2d = schedule_conv2d(conv2d_primfunc(**CONV))
    dense = schedule_dense(dense_primfunc(*DENSE))
    return build_elf({"conv2d": conv2d, "dense": dense})


@pytest.fixture(scope="module")
def unsigned() -> bytes:
    return build_elf({"dense": schedule_dense(dense_primfunc(*DENSE, weight_dtype="uint8"))})


def run(elf: bytes, name: str, weight_dtype: str = "int8") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    data_shape, weight_shape, out_shape = {
        "conv2d": (CONV["data_shape"], CONV["weight_shape"], (2, 1, 4, 4, 32)),
        "dense": ((8, 256), (1, 64, 32, 4), (8, 32)),
    }[name]
    data = rng.integers(0, 256, data_shape).astype(np.uint8)
    weight = rng.integers(0, 256, weight_shape).astype(weight_dtype)
    out = np.zeros(out_shape, np.int32)
    with FunctionServer(elf, timeout=20) as server:
        server.call(name, [data, weight], out)
    return data, weight, out


@needs_qemu
@pytest.mark.parametrize("name", ["conv2d", "dense"])
def test_data_read_as_signed_turn_large_bytes_into_256_less(signed, name):
    data, weight, right = run(signed, name)
    _, _, wrong = run(other_signedness(signed), name)
    assert (wrong != right).mean() > 0.99
    if name == "dense":
        # The sums of the data, subtracted 128 times, are still those of unsigned data.
        matrix = weight.transpose(0, 2, 1, 3).reshape(32, 256).astype(np.int64)
        lost = 256 * (data >= 128).astype(np.int64) @ (matrix.T + 128)
        assert np.array_equal(wrong, right - lost)


@needs_qemu
def test_a_dropped_accumulation_is_seen_in_part_of_each_function(signed):
    for name in ("conv2d", "dense"):
        changed = (run(drop_accumulate(signed), name)[2] != run(signed, name)[2]).mean()
        assert 0 < changed <= 0.5, name


@needs_qemu
def test_a_dropped_accumulation_is_seen_with_unsigned_weights_too(unsigned):
    assert (run(drop_accumulate(unsigned), "dense", "uint8")[2] != run(unsigned, "dense", "uint8")[2]).any()


def test_only_the_meant_instructions_change(signed):
    for fault, count in ((other_signedness, len(find_vrmpy(signed))), (drop_accumulate, 2)):
        wrong = fault(signed)
        assert len(wrong) == len(signed)
        pairs = zip(find_vrmpy(signed), find_vrmpy(wrong), strict=True)
        assert sum(a != b for a, b in pairs) == count
        changed_words = (np.frombuffer(signed[: len(signed) // 4 * 4], "<u4")
                         != np.frombuffer(wrong[: len(wrong) // 4 * 4], "<u4")).sum()  # fmt: skip
        assert changed_words == count


@needs_qemu
def test_weights_of_a_few_rows_are_read_as_unsigned():
    elf = build_elf({"dense": schedule_dense(dense_primfunc((1, 64), (1, 16, 32, 4)))})
    assert {v.operation for v in find_vrmpy(elf)} == {"vrmpybusv_acc"}
    data, weight = np.full((1, 64), 1, np.uint8), np.full((1, 16, 32, 4), -1, np.int8)
    out = np.zeros((1, 32), np.int32)
    with FunctionServer(other_signedness(elf), timeout=20) as server:
        server.call("dense", [data, weight], out)
    assert (out == 64 * 255).all()


@pytest.mark.parametrize("name", FAULTS)
def test_no_fault_can_be_planted_in_code_without_vrmpy(name):
    with pytest.raises(FaultNotPlanted, match=name):
        FAULTS[name](toolchain.compile_c("int nothing(void) { return 0; }"))
