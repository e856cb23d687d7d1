"""The Hexagon kernels on this CPU: the same loop nests with C in place of HVX instructions, against NumPy."""

import re
import subprocess
import sys

import numpy as np
import pytest
import tvm

import bench
from kernels.hexagon import conv2d, plain
from kernels.hexagon.conv2d import conv2d_primfunc, schedule_conv2d
from kernels.hexagon.image import Image
from kernels.hexagon.loop_nest import LoopNest, intrinsic, parallel, store_vector, vector
from kernels.hexagon.movement import schedule_movement
from kernels.hexagon.plain import INSTRUCTIONS, plain_code, plain_object
from tests.bench.integer_graphs import ConvCase, convolution, full_range
from tests.kernels import test_hexagon_movement, test_hexagon_network_operators, test_hexagon_operators
from tests.kernels.test_hexagon_operators import expected, operands, schedule
from tests.simulators.hvx_guest import needs_toolchain

pytestmark = [needs_toolchain]

PRODUCTS = (
    "one_channel_padded_to_4",
    "1x1_stride_2_odd_image",
    "one_row",
    "2_rows_24_words_int8_int8",
    "7_rows_35_words_int8_int8",
    "9_rows_64_words_uint8_int8",
)
OPERATORS = (
    "requantize_half_up_per_channel_uint8",
    "requantize_half_even_per_tensor_int8_three_pixels",
    "requantize_double_dense_per_channel_int8",
    "requantize_floor_int32_zero_point_past_the_end",
    "add_per_channel",
    "subtract_same",
    "multiply_one",
    "maximum_same",
    "minimum_per_channel",
    "right_shift_one",
    "clip_int8_335_elements",
    "astype_int32_to_uint8",
    "depthwise_3x3_uint8_int8",
    "depthwise_one_pixel_int8_uint8",
    "depthwise_uint8_uint8",
    "sum_pool_whole_image_int8",
    "max_pool_2x2_one_result_uint8",
)
MOVEMENTS = (
    "pack_4_channels_13x13",
    "unpack_32_channels_of_words",
    "pad_unevenly",
    "cut_from_an_odd_byte",
    "matrix",
)


def written(called: set[str] | None = None):
    """Every case as a function for this CPU, its operands and its result; `called` gets the instructions."""
    cases = {}
    with plain_code():
        for name in PRODUCTS:
            case = test_hexagon_operators.CASES[name]
            data = operands(case, "random")
            cases[f"product_{name}"] = (schedule(case), data, expected(case, *data))
        for name in OPERATORS:
            operator = test_hexagon_network_operators.CASES[name]
            cases[name] = (operator.schedule(operator.description), operator.operands, operator.expected)
        for name in MOVEMENTS:
            moved = test_hexagon_movement.CASES[name]
            cases[name] = (schedule_movement(moved.description), moved.operands, moved.expected)
    if called is not None:
        for function, *_ in cases.values():
            called |= set(re.findall(r'"bitexact_hvx_(\w+)"', function.script()))
    return cases


def compiled(functions, folder):
    """Functions for this CPU as a loaded library."""
    (folder / "plain.o").write_bytes(plain_object())

    def link(output, objects, options=None, **_):
        command = [sys.executable, "-m", "ziglang", "ld.lld", "-shared", "-o", output, *objects]
        subprocess.run([*command, str(folder / "plain.o")], check=True)

    link.output_format = "so"
    module = tvm.IRModule({name: each.with_attr("global_symbol", name) for name, each in functions.items()})
    library = str(folder / "functions.so")
    tvm.compile(module, target="llvm").export_library(library, fcompile=link)
    return tvm.runtime.load_module(library)


def call(module, name, arrays, result):
    out = tvm.runtime.empty(result.shape, str(result.dtype))
    module[name](*(tvm.runtime.tensor(np.ascontiguousarray(array)) for array in arrays), out)
    return out.numpy()


@pytest.fixture(scope="module")
def cases():
    return written()


@pytest.fixture(scope="module")
def library(cases, tmp_path_factory):
    return compiled({f"f_{name}": case[0] for name, case in cases.items()}, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("name", [*(f"product_{name}" for name in PRODUCTS), *OPERATORS, *MOVEMENTS])
def test_a_schedule_computes_its_operator_on_this_cpu(library, cases, name):
    _, arrays, result = cases[name]
    np.testing.assert_array_equal(call(library, f"f_{name}", arrays, result), result)


def test_every_instruction_is_among_the_cases():
    called: set[str] = set()
    written(called)
    assert called == INSTRUCTIONS


def test_outside_the_block_functions_are_written_for_hvx():
    shapes = ((1, 1, 1, 1, 32), (1, 1, 1, 1, 8, 32, 4))
    with plain_code():
        here = schedule_conv2d(conv2d_primfunc(*shapes)).script()
    there = schedule_conv2d(conv2d_primfunc(*shapes)).script()
    assert "llvm.hexagon" not in here
    assert "storage_alignment" not in here
    assert "llvm.hexagon" in there
    assert "bitexact_" not in there


def test_a_workspace_is_poisoned_here_too(tmp_path):
    with plain_code(), LoopNest() as nest:
        (out,) = nest.tensors(("out", (64,), "int32"))
        scratch = nest.scratch(256)
        with parallel(2) as index:
            store_vector(out.view("int32"), index * 32, vector(scratch.view("int32"), index * 32))
    result = np.full(64, -0x5A5A5A5B, np.int32)
    assert result.view(np.uint8).tolist() == [0xA5] * 256
    np.testing.assert_array_equal(call(compiled({"f": nest.function}, tmp_path), "f", [], result), result)


def test_an_instruction_without_c_is_refused_with_those_that_have_it():
    with plain_code(), LoopNest() as nest:
        (out,) = nest.tensors(("out", (32,), "int32"))
        words = vector(out.view("int32"), 0)
        with pytest.raises(
            ValueError, match=r"no C for vavgw in runtime/instructions.c; there are hi, lo, vaddw"
        ):
            intrinsic("int32x32", "vavgw", words, words)


# ---- a schedule that is wrong shows here ----


def the_pixel_before(monkeypatch):
    """The last pixel of each tile is computed from the data of the one before."""
    accumulate = conv2d.accumulate

    def wrong(registers, *, data_offsets, **arguments):
        accumulate(registers, data_offsets=[*data_offsets[:-1], *data_offsets[-2:-1]], **arguments)

    monkeypatch.setattr(conv2d, "accumulate", wrong)


def the_other_channels(monkeypatch):
    """The two blocks of output channels of a tile change places."""
    accumulate = conv2d.accumulate

    def wrong(registers, *, weight_begins, **arguments):
        accumulate(registers, weight_begins=weight_begins[::-1], **arguments)

    monkeypatch.setattr(conv2d, "accumulate", wrong)


def the_first_column(monkeypatch):
    """Every tile of a row is computed from the data of the first."""
    position = Image.position
    monkeypatch.setattr(Image, "position", lambda image, n, block, y, x: position(image, n, block, y, 0))


FAULTS = [the_pixel_before, the_other_channels, the_first_column]
SMALL = test_hexagon_operators.Conv(1, 4, 3, 9, 64, (1, 1), padding=(0, 0, 0, 0))


@pytest.mark.parametrize("plant", [None, *FAULTS], ids=lambda plant: plant.__name__ if plant else "no fault")
def test_a_fault_in_a_schedule_gives_other_results_on_this_cpu(monkeypatch, tmp_path, plant):
    if plant:
        plant(monkeypatch)
    data = operands(SMALL, "random")
    with plain_code():
        library = compiled({"conv2d": schedule(SMALL)}, tmp_path)
    right = expected(SMALL, *data)
    assert np.array_equal(call(library, "conv2d", data, right), right) is (plant is None)


def test_a_fault_in_a_schedule_is_a_mismatch_on_the_device_host(monkeypatch):
    the_pixel_before(monkeypatch)
    case = ConvCase(batch=1, inputs=4, size=9, outputs=64, kernel=1, padding=(0, 0, 0, 0))
    data = full_range(np.random.default_rng(0), (1, 4, 9, 9), "uint8")
    verdict = bench.run(convolution(case, data_dtype="uint8"), data, "hexagon", "host")
    assert verdict.verdict == "mismatch"
    assert plain.is_plain() is False
