"""The Hexagon kernels that move elements, against NumPy: every way of copying, at every alignment."""

from dataclasses import dataclass

import numpy as np
import pytest
from tvm.tirx import PrimFunc

from kernels.hexagon.build import build_elf
from kernels.hexagon.movement import (
    broadcast_primfunc,
    concat_primfunc,
    pad_primfunc,
    permute_primfunc,
    repeat_primfunc,
    reshape_primfunc,
    schedule_movement,
    slice_primfunc,
)
from simulators.hvx.qemu import FunctionServer
from tests.simulators.hvx_guest import needs_qemu, needs_toolchain

PACK, UNPACK = (0, 1, 3, 4, 2), (0, 1, 4, 2, 3)  # (N, C/c, c, H, W) to (N, C/c, H, W, c) and back


@dataclass(frozen=True)
class Case:
    """A description, operands for it and the result in NumPy."""

    description: PrimFunc
    operands: tuple[np.ndarray, ...]
    expected: np.ndarray


def drawn(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype == "float32":
        return rng.standard_normal(shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def permuted(shape: tuple[int, ...], axes: tuple[int, ...], dtype: str) -> Case:
    data = drawn(shape, dtype)
    return Case(permute_primfunc(shape, axes, dtype), (data,), data.transpose(axes))


def padded(shape: tuple[int, ...], widths: list[tuple[int, int]], dtype: str, value: float = 0) -> Case:
    data = drawn(shape, dtype)
    description = pad_primfunc(shape, widths, dtype, value=value)
    return Case(description, (data,), np.pad(data, widths, constant_values=np.dtype(dtype).type(value)))


def sliced(shape: tuple[int, ...], taken: tuple[slice, ...], dtype: str) -> Case:
    data = drawn(shape, dtype)
    ranges = [range(extent)[each] for extent, each in zip(shape, taken, strict=True)]
    begin, step = [each[0] for each in ranges], [each.step for each in ranges]
    description = slice_primfunc(shape, begin, tuple(map(len, ranges)), step, dtype)
    return Case(description, (data,), data[taken])


def joined(shapes: list[tuple[int, ...]], axis: int, dtype: str) -> Case:
    data = tuple(drawn(shape, dtype, seed) for seed, shape in enumerate(shapes))
    return Case(concat_primfunc(shapes, axis, dtype), data, np.concatenate(data, axis))


def repeated(shape: tuple[int, ...], repeats: int, axis: int, dtype: str) -> Case:
    data = drawn(shape, dtype)
    return Case(repeat_primfunc(shape, repeats, axis, dtype), (data,), data.repeat(repeats, axis))


def reshaped(shape: tuple[int, ...], out_shape: tuple[int, ...], dtype: str) -> Case:
    data = drawn(shape, dtype)
    return Case(reshape_primfunc(shape, out_shape, dtype), (data,), data.reshape(out_shape))


def spread(shape: tuple[int, ...], out_shape: tuple[int, ...], dtype: str) -> Case:
    data = drawn(shape, dtype)
    return Case(broadcast_primfunc(shape, out_shape, dtype), (data,), np.broadcast_to(data, out_shape))


def any_permutation(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(2, 6))
    shape = tuple(int(extent) for extent in rng.choice([1, 2, 3, 4, 5, 8, 9], rank))
    dtype = str(rng.choice(["int8", "uint8", "int16", "int32"]))
    return permuted(shape, tuple(int(axis) for axis in rng.permutation(rank)), dtype)


ALL = slice(None)
CASES: dict[str, Case] = {
    # into blocks and out of them, by vectors: runs that end with a vector, and that do not
    "pack_4_channels": permuted((2, 1, 4, 64, 64), PACK, "uint8"),
    "pack_4_channels_13x13": permuted((2, 1, 4, 13, 13), PACK, "int8"),
    "pack_32_channels_12x11": permuted((1, 2, 32, 12, 11), PACK, "uint8"),
    "pack_8_channels_of_words": permuted((1, 2, 8, 5, 7), PACK, "int32"),
    "pack_16_channels_of_halfwords": permuted((1, 1, 16, 32, 33), PACK, "int16"),
    "pack_2_channels_of_double_words": permuted((1, 1, 2, 4, 5), PACK, "int64"),
    "unpack_32_channels": permuted((2, 2, 24, 32, 32), UNPACK, "int8"),
    "unpack_32_channels_13x13": permuted((1, 2, 13, 13, 32), UNPACK, "uint8"),
    "unpack_32_channels_of_words": permuted((1, 2, 16, 17, 32), UNPACK, "int32"),
    "unpack_4_channels_15x9": permuted((1, 1, 15, 9, 4), UNPACK, "uint8"),
    # too small for vectors, or a number of channels that no shuffle takes
    "pack_32_channels_3x3": permuted((2, 1, 32, 3, 3), PACK, "int8"),
    "unpack_32_channels_3x3": permuted((2, 1, 3, 3, 32), UNPACK, "int8"),
    "pack_12_channels": permuted((1, 1, 12, 16, 16), PACK, "int8"),
    "matrix": permuted((33, 65), (1, 0), "int8"),
    "matrix_of_floats": permuted((33, 65), (1, 0), "float32"),
    "nothing_moves": permuted((1, 7, 1, 50), (2, 1, 0, 3), "int8"),
    # padding
    "pad_channels": padded((2, 3, 9, 9), [(0, 0), (0, 1), (0, 0), (0, 0)], "uint8"),
    "pad_unevenly": padded((1, 2, 5, 6, 32), [(0, 0), (0, 0), (1, 2), (3, 0), (0, 0)], "int8", -128),
    "pad_with_128": padded((3, 5), [(1, 0), (0, 2)], "uint8", 128),
    "pad_every_end": padded((3, 4, 5), [(1, 2), (2, 1), (3, 3)], "int16", -2),
    "pad_between": padded((4, 1, 5, 1, 32), [(0, 0), (0, 1), (0, 0), (0, 2), (0, 0)], "int8"),
    "pad_words": padded((5, 7), [(0, 0), (0, 25)], "int32", -(2**31)),
    "pad_floats": padded((5, 7), [(1, 1), (1, 1)], "float32", 0.1),
    "pad_double_words": padded((3,), [(0, 30)], "int64", 2**40),
    "pad_nothing": padded((3, 50), [(0, 0), (0, 0)], "int8", 7),
    # slices
    "cut_channels_of_words": sliced((4, 64), (ALL, slice(0, 50)), "int32"),
    "cut_from_an_odd_byte": sliced((3, 300), (ALL, slice(3, 204)), "uint8"),
    "cut_a_frame": sliced((2, 6, 7, 32), (ALL, slice(1, 5), slice(2, 7), ALL), "int8"),
    "every_other": sliced((2, 9, 9, 4), (ALL, slice(0, 9, 2), slice(1, 9, 3), ALL), "int8"),
    "backwards": sliced((5, 140), (slice(None, None, -1), slice(130, 2, -1)), "uint8"),
    # joining
    "join_blocks": joined([(1, 2, 15, 15, 32), (1, 1, 15, 15, 32), (1, 3, 15, 15, 32)], 1, "uint8"),
    "join_odd_channels": joined([(2, 3, 7, 7), (2, 5, 7, 7)], 1, "int8"),
    "join_innermost": joined([(9, 130), (9, 3), (9, 1)], 1, "int8"),
    "join_outermost": joined([(1, 67), (2, 67)], 0, "int32"),
    "one_alone": joined([(3, 67)], 0, "int32"),
    # repeating
    "repeat_rows": repeated((1, 2, 20, 15, 32), 2, 2, "int8"),
    "repeat_columns": repeated((1, 2, 3, 5, 32), 2, 3, "uint8"),
    "repeat_elements": repeated((7, 9), 3, 1, "int16"),
    "broadcast_rows": spread((1, 5, 1), (3, 5, 40), "int8"),
    "broadcast_to_more_dimensions": spread((200,), (3, 200), "int8"),
    # shapes alone
    "flatten": reshaped((2, 3, 32), (2, 96), "uint8"),
    "reshape_an_odd_number": reshaped((7, 13), (91,), "int8"),
    "reshape_many": reshaped((3, 5, 2001), (2001, 15), "int8"),
    "one_element": reshaped((1, 1), (1,), "int32"),
    **{f"permutation_{seed}": any_permutation(seed) for seed in range(8)},
}  # fmt: skip


@pytest.fixture(scope="module")
def server():
    functions = {name: schedule_movement(case.description) for name, case in CASES.items()}
    with FunctionServer(build_elf(functions), timeout=30) as running:
        running.shuffle_tasks(7)
        yield running


def run(server: FunctionServer, name: str) -> dict[str, int]:
    case = CASES[name]
    out = np.empty_like(np.ascontiguousarray(case.expected))
    counters = server.call(name, case.operands, out)
    np.testing.assert_array_equal(out, case.expected)
    return counters


@needs_qemu
@needs_toolchain
@pytest.mark.parametrize("name", CASES)
def test_elements_are_where_numpy_has_them(server, name):
    run(server, name)


PACKETS = {
    # packets for 128 bytes of the result, of which a part is the overhead of a call and of its parallel loop
    "pack_4_channels": 4,
    "unpack_32_channels": 6,
    "unpack_32_channels_of_words": 6,
    "pack_16_channels_of_halfwords": 6,
    "join_blocks": 10,
    "repeat_rows": 6,
    "reshape_many": 8,
}


@needs_qemu
@needs_toolchain
@pytest.mark.parametrize("name", PACKETS)
def test_runs_and_turns_are_moved_by_vectors(server, name):
    """One by one it would be 128 packets for bytes, 64 for halfwords and 32 for words."""
    counters = run(server, name)
    assert counters["hvx_instructions"] > 0
    assert counters["packets"] / (CASES[name].expected.nbytes / 128) <= PACKETS[name]


REFUSED = {
    "dtype": (lambda: reshape_primfunc((4,), (4,), "float16"), "reshape: float16 is none of int8, uint8"),
    "empty": (lambda: permute_primfunc((0, 4), (1, 0), "int8"), r"at least 1, not \(0, 4\)"),
    "elements": (lambda: reshape_primfunc((4,), (5,), "int8"), r"\(4,\) and \(5,\) have other numbers"),
    "axes": (lambda: permute_primfunc((4, 5), (1, 1), "int8"), r"\(1, 1\) is no order of the axes"),
    "widths": (lambda: pad_primfunc((4,), [(0, -1)], "int8"), "two numbers from 0"),
    "value": (lambda: pad_primfunc((4,), [(0, 1)], "int8", value=128), "128 is not a value of int8"),
    "fraction": (lambda: pad_primfunc((4,), [(0, 1)], "int8", value=0.5), "0.5 is not a value of int8"),
    "outside": (lambda: slice_primfunc((4,), (2,), (3,), (1,), "int8"), r"is not inside \(4,\)"),
    "before": (lambda: slice_primfunc((4,), (2,), (4,), (-1,), "int8"), "is not inside"),
    "join": (lambda: concat_primfunc([(2, 3), (2, 4)], 0, "int8"), "cannot be joined along axis 0"),
    "many": (lambda: concat_primfunc([(1,)] * 16, 0, "int8"), "16 tensors; 1 to 15 can be joined"),
    "repeat": (lambda: repeat_primfunc((4,), 0, 0, "int8"), "repeat: 0 times along axis 0"),
    "broadcast": (lambda: broadcast_primfunc((2,), (3,), "int8"), r"\(2,\) does not broadcast to \(3,\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_moved_is_refused(name):
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        make()


def test_only_a_movement_is_scheduled():
    from kernels.hexagon.elementwise import unary_primfunc

    with pytest.raises(ValueError, match="expected the description of movement, not of unary"):
        schedule_movement(unary_primfunc("relu", (4,), "int8"))
