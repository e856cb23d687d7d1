"""The Hexagon convolution and dense kernels against plain int64 NumPy on unpacked tensors."""

from typing import NamedTuple

import numpy as np
import pytest
import tvm

from kernels.hexagon.build import build_elf
from kernels.hexagon.conv2d import conv2d_primfunc, schedule_conv2d
from kernels.hexagon.dense import dense_primfunc, schedule_dense
from kernels.hexagon.machine_code import without_vrmpy
from simulators.hvx.qemu import FunctionServer
from tests.simulators.hvx_guest import needs_qemu, needs_toolchain


class Conv(NamedTuple):
    images: int
    channels: int
    height: int
    width: int
    out_channels: int
    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (1, 1, 1, 1)
    weight_dtype: str = "int8"

    @property
    def lanes(self) -> int:
        return min(self.channels, 32)

    @property
    def data_shape(self) -> tuple[int, ...]:
        return (self.images, self.channels // self.lanes, self.height, self.width, self.lanes)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        blocks = self.channels // self.lanes
        return (self.out_channels // 32, blocks, *self.kernel, self.lanes // 4, 32, 4)

    @property
    def out_shape(self) -> tuple[int, ...]:
        top, left, bottom, right = self.padding
        height = (self.height + top + bottom - self.kernel[0]) // self.strides[0] + 1
        width = (self.width + left + right - self.kernel[1]) // self.strides[1] + 1
        return (self.images, self.out_channels // 32, height, width, 32)

    def primfunc(self):
        return conv2d_primfunc(
            self.data_shape,
            self.weight_shape,
            strides=self.strides,
            padding=self.padding,
            weight_dtype=self.weight_dtype,
        )


CONVOLUTIONS = {
    "one_channel_padded_to_4": Conv(2, 4, 8, 8, 32),
    "20_channels": Conv(1, 20, 5, 5, 32),
    "stride_2": Conv(2, 32, 8, 8, 64, strides=(2, 2)),
    "two_blocks_of_channels": Conv(2, 64, 4, 4, 64),
    "1x1": Conv(2, 64, 4, 4, 64, kernel=(1, 1), padding=(0, 0, 0, 0)),
    "1x1_stride_2_odd_image": Conv(1, 32, 7, 5, 32, kernel=(1, 1), strides=(2, 2), padding=(0, 0, 0, 0)),
    "7x7_stride_2": Conv(1, 4, 14, 14, 32, kernel=(7, 7), strides=(2, 2), padding=(3, 3, 3, 3)),
    "asymmetric_padding": Conv(1, 32, 5, 6, 32, padding=(0, 2, 3, 1)),
    "padding_wider_than_the_kernel": Conv(1, 4, 3, 3, 32, padding=(4, 4, 4, 4)),
    "oblong_kernel_and_strides": Conv(1, 32, 9, 7, 32, kernel=(1, 5), strides=(3, 1), padding=(0, 2, 0, 2)),
    "prime_width_11": Conv(1, 32, 2, 11, 32),
    "one_pixel": Conv(1, 32, 1, 1, 32),
    "unsigned_weights": Conv(2, 64, 4, 4, 64, weight_dtype="uint8"),
    "unsigned_weights_4_channels": Conv(1, 4, 8, 8, 32, weight_dtype="uint8"),
}


class Dense(NamedTuple):
    rows: int
    inputs: int
    outputs: int
    weight_dtype: str = "int8"

    @property
    def data_shape(self) -> tuple[int, ...]:
        return (self.rows, self.inputs)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.outputs // 32, self.inputs // 4, 32, 4)

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (self.rows, self.outputs)

    def primfunc(self):
        return dense_primfunc(self.data_shape, self.weight_shape, weight_dtype=self.weight_dtype)


DENSE = {
    "one_row": Dense(1, 64, 32),
    "prime_rows_13": Dense(13, 64, 32),
    "batch_256": Dense(256, 64, 32),
    "four_inputs": Dense(8, 4, 32),
    "96_outputs": Dense(6, 36, 96),
    "dense_unsigned": Dense(8, 64, 64, weight_dtype="uint8"),
    "sum_past_int32": Dense(1, 33028, 32, weight_dtype="uint8"),
}

CASES: dict[str, Conv | Dense] = {**CONVOLUTIONS, **DENSE}


def schedule(case: Conv | Dense):
    return (schedule_conv2d if isinstance(case, Conv) else schedule_dense)(case.primfunc())


def wrapped(sums: np.ndarray) -> np.ndarray:
    return ((sums + 2**31) % 2**32 - 2**31).astype(np.int32)


def convolve(case: Conv, data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The convolution in int64 on NCHW and OIHW, and the result packed again."""
    nchw = (
        data.astype(np.int64)
        .transpose(0, 1, 4, 2, 3)
        .reshape(case.images, case.channels, case.height, case.width)
    )
    oihw = weight.astype(np.int64).transpose(0, 5, 1, 4, 6, 2, 3)
    oihw = oihw.reshape(case.out_channels, case.channels, *case.kernel)
    top, left, bottom, right = case.padding
    padded = np.pad(nchw, ((0, 0), (0, 0), (top, bottom), (left, right)))
    _, blocks, height, width, _ = case.out_shape
    out = np.zeros((case.images, case.out_channels, height, width), np.int64)
    for y in range(case.kernel[0]):
        for x in range(case.kernel[1]):
            window = padded[:, :, y :: case.strides[0], x :: case.strides[1]][:, :, :height, :width]
            out += np.einsum("nihw,oi->nohw", window, oihw[:, :, y, x])
    return wrapped(out.reshape(case.images, blocks, 32, height, width).transpose(0, 1, 3, 4, 2))


def multiply(case: Dense, data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    matrix = np.empty((case.outputs, case.inputs), np.int64)
    for n in range(case.outputs):
        for k in range(case.inputs):
            matrix[n, k] = weight[n // 32, k // 4, n % 32, k % 4]
    return wrapped(data.astype(np.int64) @ matrix.T)


def expected(case: Conv | Dense, data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return convolve(case, data, weight) if isinstance(case, Conv) else multiply(case, data, weight)


def operands(case: Conv | Dense, kind: str) -> tuple[np.ndarray, np.ndarray]:
    info = np.iinfo(case.weight_dtype)
    if kind == "random":
        rng = np.random.default_rng(7)
        data = rng.integers(0, 255, case.data_shape, dtype=np.uint8, endpoint=True)
        return data, rng.integers(info.min, info.max, case.weight_shape, dtype=info.dtype, endpoint=True)
    end = info.max if kind == "largest" else info.min
    return np.full(case.data_shape, 255, np.uint8), np.full(case.weight_shape, end, info.dtype)


def executed_multiplications(case: Conv | Dense) -> int:
    """Multiply-accumulates of the padded shapes, in vrmpy of 128."""
    sums = np.prod(case.out_shape, dtype=int)
    return int(sums * np.prod(case.weight_shape) // (32 * case.weight_shape[0]) // 128)


@pytest.fixture(scope="module")
def server():
    elf = build_elf({f"case_{name}": schedule(case) for name, case in CASES.items()})
    with FunctionServer(elf, without_vrmpy=without_vrmpy(elf), timeout=60) as running:
        yield running


@needs_qemu
@needs_toolchain
@pytest.mark.parametrize("kind", ["random", "largest", "smallest"])
@pytest.mark.parametrize("name", CASES)
def test_hexagon_code_computes_the_operator(server, name, kind):
    case = CASES[name]
    data, weight = operands(case, kind)
    out = np.zeros(case.out_shape, np.int32)
    counters = server.call(f"case_{name}", [data, weight], out)
    assert np.array_equal(out, expected(case, data, weight))
    assert counters["vrmpy"] == executed_multiplications(case)


@pytest.mark.parametrize("name", CASES)
def test_the_plain_description_computes_the_operator_on_this_cpu(name):
    case = CASES[name]
    data, weight = operands(case, "random")
    out = tvm.runtime.empty(case.out_shape, "int32")
    function = case.primfunc().with_attr("global_symbol", "main")
    tvm.compile(tvm.IRModule({"main": function}), target="llvm")["main"](
        tvm.runtime.tensor(data), tvm.runtime.tensor(weight), out
    )
    assert np.array_equal(out.numpy(), expected(case, data, weight))


def test_a_sum_past_int32_is_among_the_cases():
    case = DENSE["sum_past_int32"]
    assert 255 * 255 * case.inputs > 2**31 - 1
    assert expected(case, *operands(case, "largest")).max() < 0


@needs_qemu
@needs_toolchain
@pytest.mark.parametrize(
    ("case", "packets_per_vrmpy"),
    [
        (Conv(256, 32, 8, 8, 64, strides=(2, 2)), 2.3),
        (Conv(256, 64, 4, 4, 64), 1.6),
        (Conv(256, 64, 4, 4, 64, weight_dtype="uint8"), 0.9),
        (Conv(256, 4, 8, 8, 32), 1.6),
        (Dense(256, 64, 32), 1.9),
    ],
    ids=["24-to-40-stride-2", "40-to-40", "40-to-40-unsigned", "1-to-24", "dense"],
)
def test_accumulators_stay_in_registers(case, packets_per_vrmpy):
    """Each vrmpy with its accumulator in memory would add a load and a store to the HVX instructions."""
    elf = build_elf({"operator": schedule(case)})
    with FunctionServer(elf, without_vrmpy=without_vrmpy(elf), timeout=60) as running:
        out = np.zeros(case.out_shape, np.int32)
        counters = running.call("operator", [*operands(case, "random")], out)
    assert counters["vrmpy"] == executed_multiplications(case)
    assert counters["hvx_instructions"] < 2.7 * counters["vrmpy"]
    assert counters["packets"] < packets_per_vrmpy * counters["vrmpy"]


GOOD = {"data_shape": (1, 2, 4, 4, 32), "weight_shape": (1, 2, 3, 3, 8, 32, 4)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_shape": (1, 64, 4, 4)}, "of 5 dimensions and weights .* of 7"),
        ({"weight_shape": (64, 64, 3, 3)}, "of 5 dimensions and weights .* of 7"),
        (
            {"data_shape": (1, 2, 4, 4, 36)},
            "2 blocks of 36 input channels: one block holds a multiple of 4 up to 32",
        ),
        ({"data_shape": (1, 2, 4, 4, 16)}, "more than one block holds 32 each"),
        ({"data_shape": (1, 1, 4, 4, 6)}, "a multiple of 4"),
        ({"weight_shape": (1, 1, 3, 3, 8, 32, 4)}, r"they would be \(O/32, 2, KH, KW, 8, 32, 4\)"),
        ({"weight_shape": (1, 2, 3, 3, 8, 4, 32)}, "they would be"),
        ({"strides": (0, 1)}, "strides are at least 1"),
        ({"padding": (1, 1, -1, 1)}, "4 numbers from 0"),
        ({"padding": (1, 1)}, "4 numbers from 0"),
        (
            {"weight_shape": (1, 2, 5, 3, 8, 32, 4)},
            r"a kernel of \(5, 3\) does not fit a padded image of \(4, 4\)",
        ),
        ({"data_dtype": "int8"}, "no vrmpy kernel for int8 x int8; there are uint8 x uint8, uint8 x int8"),
        ({"weight_dtype": "int16"}, "no vrmpy kernel for uint8 x int16"),
    ],
)
def test_a_convolution_that_no_kernel_takes_is_refused(change, message):
    conv2d_primfunc(**GOOD)
    with pytest.raises(ValueError, match=message):
        conv2d_primfunc(**{**GOOD, **change})


@pytest.mark.parametrize(
    ("data_shape", "weight_shape", "dtype"),
    [
        ((4, 64, 1), (1, 16, 32, 4), "int8"),
        ((4, 66), (1, 16, 32, 4), "int8"),
        ((4, 64), (1, 16, 4, 32), "int8"),
        ((0, 64), (1, 16, 32, 4), "int8"),
        ((4, 64), (1, 16, 32, 4), "int4"),
    ],
)
def test_a_dense_layer_that_no_kernel_takes_is_refused(data_shape, weight_shape, dtype):
    with pytest.raises(ValueError, match=r"dense takes data \(M, K\)|no vrmpy kernel for"):
        dense_primfunc(data_shape, weight_shape, weight_dtype=dtype)
