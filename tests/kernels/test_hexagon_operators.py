"""The Hexagon convolution and dense kernels against plain int64 NumPy on unpacked tensors."""

from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import pytest
import tvm

from kernels.hexagon.build import build_elf
from kernels.hexagon.conv2d import Convolution, conv2d_primfunc, schedule_conv2d
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
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    data_dtype: str = "uint8"
    weight_dtype: str = "int8"

    def convolution(self) -> Convolution:
        lanes = min(self.channels, 32)
        blocks = self.channels // lanes
        return Convolution(
            (self.images, blocks, self.height, self.width, lanes),
            (self.out_channels // 32, blocks // self.groups, *self.kernel, lanes // 4, 32, 4),
            self.strides,
            self.padding,
            self.dilation,
            self.groups,
            self.data_dtype,
            self.weight_dtype,
        )

    @property
    def data_shape(self) -> tuple[int, ...]:
        return self.convolution().data_shape

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return self.convolution().weight_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        top, left, bottom, right = self.padding
        size = []
        for axis, padded in enumerate((self.height + top + bottom, self.width + left + right)):
            reach = (self.kernel[axis] - 1) * self.dilation[axis] + 1
            size.append((padded - reach) // self.strides[axis] + 1)
        return (self.images, self.out_channels // 32, *size, 32)

    def primfunc(self):
        return conv2d_primfunc(**asdict(self.convolution()))


ONE_BY_ONE = {"kernel": (1, 1), "padding": (0, 0, 0, 0)}
CONVOLUTIONS = {
    "one_channel_padded_to_4": Conv(2, 4, 8, 8, 32),
    "20_channels": Conv(1, 20, 5, 5, 32),
    "28_channels_96_outputs_width_17": Conv(1, 28, 5, 17, 96, (3, 2)),
    "stride_2": Conv(2, 32, 8, 8, 64, strides=(2, 2)),
    "two_blocks_of_channels": Conv(2, 64, 4, 4, 96),
    "1x1": Conv(2, 64, 4, 4, 64, **ONE_BY_ONE),
    "1x1_stride_2_odd_image": Conv(1, 32, 7, 5, 32, strides=(2, 2), **ONE_BY_ONE),
    "7x7_stride_2": Conv(1, 4, 14, 14, 32, (7, 7), (2, 2), (3, 3, 3, 3)),
    "asymmetric_padding": Conv(1, 32, 5, 6, 32, padding=(0, 2, 3, 1)),
    "padding_wider_than_the_kernel": Conv(1, 4, 3, 3, 32, padding=(4, 4, 4, 4)),
    "oblong_kernel_and_strides": Conv(1, 32, 9, 7, 32, (1, 5), (3, 1), (0, 2, 0, 2)),
    "prime_width_11": Conv(1, 32, 2, 11, 32),
    "prime_width_17_tiles_of_two_sizes": Conv(1, 32, 3, 17, 64, padding=(0, 0, 0, 0)),
    "one_pixel": Conv(1, 32, 1, 1, 32),
    "dilation_2_and_3": Conv(1, 64, 9, 13, 64, padding=(2, 3, 2, 3), dilation=(2, 3)),
    "two_groups": Conv(2, 64, 6, 6, 128, groups=2),
    "even_kernel": Conv(1, 8, 5, 7, 32, (2, 2), padding=(1, 0, 0, 1)),
}
OTHER_DTYPES = {
    f"{name}_{data}_{weight}": CONVOLUTIONS[name]._replace(data_dtype=data, weight_dtype=weight)
    for data, weight in (("uint8", "uint8"), ("int8", "uint8"), ("int8", "int8"))
    for name in ("two_blocks_of_channels", "20_channels", "asymmetric_padding", "two_groups")
}


class Dense(NamedTuple):
    rows: int
    inputs: int
    outputs: int
    data_dtype: str = "uint8"
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
        dtypes = {"data_dtype": self.data_dtype, "weight_dtype": self.weight_dtype}
        return dense_primfunc(self.data_shape, self.weight_shape, **dtypes)


DENSE = {
    "one_row": Dense(1, 64, 32),
    "prime_rows_13": Dense(13, 64, 32),
    "batch_256": Dense(256, 64, 32),
    "four_inputs": Dense(8, 4, 32),
    "96_outputs_9_words": Dense(6, 36, 96),
    "sum_past_int32": Dense(1, 33028, 32, weight_dtype="uint8"),
    **{
        f"{rows}_rows_{words}_words_{data}_{weight}": Dense(rows, 4 * words, 64, data, weight)
        for rows, words in ((2, 24), (5, 63), (7, 35), (9, 64))
        for data in ("uint8", "int8")
        for weight in ("uint8", "int8")
    },
}

CASES: dict[str, Conv | Dense] = {**CONVOLUTIONS, **OTHER_DTYPES, **DENSE}


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
    oihw = oihw.reshape(case.out_channels, case.channels // case.groups, *case.kernel)
    top, left, bottom, right = case.padding
    padded = np.pad(nchw, ((0, 0), (0, 0), (top, bottom), (left, right)))
    _, blocks, height, width, _ = case.out_shape
    out = np.zeros((case.images, case.out_channels, height, width), np.int64)
    split = ((padded, 1), (oihw, 0), (out, 1))
    parts = (np.split(whole, case.groups, axis) for whole, axis in split)
    for source, factors, into in zip(*parts, strict=True):
        for y, x in np.ndindex(case.kernel):
            window = source[:, :, y * case.dilation[0] :, x * case.dilation[1] :]
            window = window[:, :, :: case.strides[0], :: case.strides[1]][:, :, :height, :width]
            into += np.einsum("nihw,oi->nohw", window, factors[:, :, y, x])  # noqa: PLW2901
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
    """Random over the full range, or every byte at one end of it."""
    filled = []
    rng = np.random.default_rng(7)
    for shape, dtype in ((case.data_shape, case.data_dtype), (case.weight_shape, case.weight_dtype)):
        info = np.iinfo(dtype)
        if kind == "random":
            filled.append(rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True))
        else:
            filled.append(np.full(shape, info.max if kind == "largest" else info.min, dtype))
    if kind == "smallest" and case.data_dtype == "uint8":
        filled[0][:] = 255  # 0 would show nothing
    return filled[0], filled[1]


def multiplications(case: Conv | Dense) -> int:
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
    assert counters["vrmpy"] == multiplications(case)


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


EFFICIENCY = {
    "conv2d_56x56_64_to_256": (Conv(1, 64, 56, 56, 256), 0.56),
    "conv2d_1x1_56x56_64_to_64": (Conv(1, 64, 56, 56, 64, **ONE_BY_ONE), 0.71),
    "conv2d_1x1_7x7_512_to_512": (Conv(1, 512, 7, 7, 512, **ONE_BY_ONE), 0.62),
    "conv2d_stride_2_28x28": (Conv(1, 128, 28, 28, 128, strides=(2, 2)), 0.64),
    "conv2d_7x7_stride_2_first_layer": (Conv(1, 4, 224, 224, 64, (7, 7), (2, 2), (3, 3, 3, 3)), 0.61),
    "dense_128x1000x2048": (Dense(128, 2048, 1024), 0.58),
    "dense_128x1000x2048_int8_int8": (Dense(128, 2048, 1024, "int8"), 0.58),
    "dense_128x1000x2048_uint8_uint8": (Dense(128, 2048, 1024, "uint8", "uint8"), 0.58),
    "dense_128x1000x2048_int8_uint8": (Dense(128, 2048, 1024, "int8", "uint8"), 0.58),
    "dense_1x1000x2048": (Dense(1, 2048, 1024), 1.4),
}


@needs_qemu
@needs_toolchain
def test_packets_for_each_multiplication():
    """Every packet of the functions counts: padding, compensation and tails too."""
    elf = build_elf({name: schedule(case) for name, (case, _) in EFFICIENCY.items()})
    spent = {}
    with FunctionServer(elf, without_vrmpy=without_vrmpy(elf), timeout=60) as running:
        for name, (case, _) in EFFICIENCY.items():
            out = np.zeros(case.out_shape, np.int32)
            counters = running.call(name, [*operands(case, "random")], out)
            assert counters["vrmpy"] == multiplications(case)
            spent[name] = counters["packets"] / multiplications(case)
    assert {name for name, (_, limit) in EFFICIENCY.items() if spent[name] > limit} == set(), spent


def resnet50() -> dict[Conv, int]:
    """Every convolution of ResNet-50 (v1.5, 224x224) and how often it occurs."""
    layers = [Conv(1, 4, 224, 224, 64, (7, 7), (2, 2), (3, 3, 3, 3))]
    channels, size = 64, 56
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            out = size // stride
            layers.append(Conv(1, channels, size, size, width, **ONE_BY_ONE))
            layers.append(Conv(1, width, size, size, width, strides=(stride, stride)))
            layers.append(Conv(1, width, out, out, 4 * width, **ONE_BY_ONE))
            if not block:
                layers.append(
                    Conv(1, channels, size, size, 4 * width, strides=(stride, stride), **ONE_BY_ONE)
                )
            channels, size = 4 * width, out
    return {layer: layers.count(layer) for layer in layers}


@pytest.mark.slow
@needs_qemu
@needs_toolchain
def test_packets_for_each_multiplication_of_all_convolutions_of_resnet50():
    layers = resnet50()
    assert sum(layers.values()) == 53
    elf = build_elf({f"layer{i}": schedule(case) for i, case in enumerate(layers)})
    packets = vrmpy = 0
    with FunctionServer(elf, without_vrmpy=without_vrmpy(elf), timeout=100) as running:
        for i, (case, count) in enumerate(layers.items()):
            out = np.zeros(case.out_shape, np.int32)
            counters = running.call(f"layer{i}", [*operands(case, "random")], out)
            assert counters["vrmpy"] == multiplications(case)
            packets += count * counters["packets"]
            vrmpy += count * multiplications(case)
    assert 32_000_000 < vrmpy < 32_500_000  # 4.1 GMAC
    assert packets < 0.59 * vrmpy, packets / vrmpy


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
        ({"strides": (0, 1)}, "strides, dilation and groups are at least 1"),
        ({"padding": (1, 1, -1, 1)}, "4 numbers from 0"),
        ({"padding": (1, 1)}, "4 numbers from 0"),
        (
            {"weight_shape": (1, 2, 5, 3, 8, 32, 4)},
            r"a kernel of \(5, 3\) .* does not fit a padded image of \(4, 4\)",
        ),
        ({"data_dtype": "int32"}, "no vrmpy kernel for int32 x int8; there are uint8 x uint8, uint8 x int8"),
        ({"dilation": (1, 4)}, r"\(3, 3\) with dilation \(1, 4\) does not fit"),
        ({"groups": 3}, "3 groups of 2 blocks of input and 1 of output"),
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
