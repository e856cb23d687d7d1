"""`bitexact.conv2d` and `bitexact.dense`: shapes from layouts, and values equal to the plain operators'."""

import numpy as np
import pytest
import tvm
from tvm import relax

from bench.evaluate import evaluate
from bench.layout import pack, unpack
from bench.operators import conv2d, dense

GENERATOR = np.random.default_rng(0)


def full_range(shape, dtype):
    """Random operands over the whole range of a type, both ends among them."""
    limits = np.iinfo(dtype)
    values = GENERATOR.integers(limits.min, limits.max + 1, shape).astype(dtype)
    values.flat[:2] = limits.min, limits.max
    return values


def module_of(build, *arrays):
    """Wrap one operator into a module with an input for each array."""
    builder = relax.BlockBuilder()
    parameters = [
        relax.Var(f"x{i}", relax.TensorType(array.shape, str(array.dtype))) for i, array in enumerate(arrays)
    ]
    with builder.function("main", parameters):
        builder.emit_func_output(builder.emit(build(*parameters)))
    return builder.get()


CONVOLUTIONS = {
    # data layout, kernel layout, output layout
    "plain": ("NCHW", "OIHW", "NCHW"),
    "HWNC": ("HWNC", "HWOI", "HWNC"),
    "tensor core int8": ("HWNC", "HWOI32o16i", "HWNC"),
    "tensor core int4": ("HWNC", "HWOI8o32i", "HWNC"),
    "vrmpy": ("NCHW32c", "OIHW8i32o4i", "NCHW32c"),
    "vrmpy, four channels": ("NCHW4c", "OIHW1i32o4i", "NCHW32c"),
    "VTA": ("NCHW1n16c", "OIHW16o16i", "NCHW1n16c"),
    "packed to plain": ("NCHW16c", "OIHW16i16o", "NHWC"),
}


@pytest.mark.parametrize("data_dtype", ["int8", "uint8"])
@pytest.mark.parametrize("layouts", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_a_packed_convolution_is_the_plain_one(layouts, data_dtype):
    data_layout, kernel_layout, out_layout = layouts
    data, weight = full_range((2, 24, 7, 8), data_dtype), full_range((40, 24, 3, 3), "int8")
    options = {"strides": (2, 1), "padding": (1, 0, 2, 1), "dilation": (1, 2)}
    plain = module_of(lambda x, w: relax.op.nn.conv2d(x, w, out_dtype="int32", **options), data, weight)
    expected = evaluate(plain, [data, weight])

    packed_weight = pack(weight, kernel_layout, source="OIHW")
    inputs = unpack(packed_weight, kernel_layout, target="OIHW").shape[1]
    padded = np.pad(data, ((0, 0), (0, inputs - 24), (0, 0), (0, 0)))
    packed_data = pack(padded, data_layout, source="NCHW")
    packed = module_of(
        lambda x, w: conv2d(
            x, w, data_layout=data_layout, kernel_layout=kernel_layout, out_layout=out_layout, **options
        ),
        packed_data,
        packed_weight,
    )
    result = evaluate(packed, [packed_data, packed_weight])
    assert result.dtype == np.int32
    assert tuple(packed["main"].ret_ty.shape) == result.shape
    result = unpack(result, out_layout, target="NCHW")
    np.testing.assert_array_equal(result[:, :40], expected)
    # Channels that the packing added are zero.
    assert not result[:, 40:].any()


DENSE = {
    "plain": ("NC", "NK", "NC"),
    "vrmpy": ("NC", "NC32n4c", "NC"),
    "tensor core": ("NC", "NK32n16k", "NC"),
    "VTA": ("NC1n16c", "NC16n16c", "NC1n16c"),
    "VTA, batch 4": ("NC4n16c", "NC16n16c", "NC4n16c"),
}


@pytest.mark.parametrize("layouts", DENSE.values(), ids=DENSE)
def test_a_packed_dense_layer_is_the_plain_product(layouts):
    data_layout, weight_layout, out_layout = layouts
    data, weight = full_range((8, 64), "uint8"), full_range((10, 64), "int8")
    expected = data.astype(np.int64) @ weight.T.astype(np.int64)
    rows, units = pack(data, data_layout), pack(weight, weight_layout)
    packed = module_of(
        lambda x, w: dense(x, w, data_layout=data_layout, weight_layout=weight_layout, out_layout=out_layout),
        rows,
        units,
    )
    result = evaluate(packed, [rows, units])
    assert tuple(packed["main"].ret_ty.shape) == result.shape
    np.testing.assert_array_equal(unpack(result, out_layout)[:, :10], expected)


def conv_call(data=(1, 2, 4, 4, 16), weight=(2, 2, 3, 3, 16, 16), dtypes=("int8", "int8"), **options):
    layouts = {"data_layout": "NCHW16c", "kernel_layout": "OIHW16o16i", **options}
    operands = [
        relax.Var(name, relax.TensorType(shape, dtype))
        for name, shape, dtype in zip("xw", (data, weight), dtypes, strict=True)
    ]
    return conv2d(*operands, **layouts)


def dense_call(data=(4, 64), weight=(2, 4, 32, 16), dtypes=("int8", "int8"), **options):
    layouts = {"weight_layout": "NK32n16k", **options}
    operands = [
        relax.Var(name, relax.TensorType(shape, dtype))
        for name, shape, dtype in zip("xw", (data, weight), dtypes, strict=True)
    ]
    return dense(*operands, **layouts)


ERRORS = {
    "conv2d: data layout": (
        lambda: conv_call(data_layout="NCDHW"),
        "data_layout 'NCDHW' must have the axes NCHW",
    ),
    "conv2d: unknown pattern": (
        lambda: conv_call(kernel_layout="oihw"),
        "layout 'oihw': expected upper-case",
    ),
    "conv2d: data shape": (
        lambda: conv_call(data=(1, 2, 4, 4, 8)),
        r"shape \(1, 2, 4, 4, 8\) does not fit layout",
    ),
    "conv2d: channels": (lambda: conv_call(data=(1, 3, 4, 4, 16)), "C=48 .* meets a weight with I=32"),
    "conv2d: out layout": (
        lambda: conv_call(out_layout="NCHW64c"),
        "out_layout 'NCHW64c' does not divide C=32",
    ),
    "conv2d: kernel too large": (lambda: conv_call(data=(1, 2, 2, 2, 16)), "larger than the padded data"),
    "conv2d: data dtype": (
        lambda: conv_call(dtypes=("int16", "int8")),
        "data of int16 must be one of int8, uint8",
    ),
    "conv2d: weight dtype": (
        lambda: conv_call(dtypes=("int8", "float32")),
        "weight of float32 must be one of",
    ),
    "conv2d: out dtype": (lambda: conv_call(out_dtype="int8"), "out_dtype 'int8' must be int32"),
    "conv2d: padding": (lambda: conv_call(padding=(1, 1)), r"padding \(1, 1\) must have 4 entries"),
    "dense: layout": (
        lambda: dense_call(data_layout="NCHW"),
        "data_layout 'NCHW' must have the axes N and C, or",
    ),
    "dense: depth": (
        lambda: dense_call(data=(4, 48)),
        r"data sums over 48 \(NC\), the weight over 64 \(NK32n16k\)",
    ),
    "dense: out layout": (lambda: dense_call(out_layout="NC8n"), "does not divide N=4"),
    "dense: dtype": (lambda: dense_call(dtypes=("int32", "int8")), "data of int32 must be one of"),
    "dense: out dtype": (lambda: dense_call(out_dtype="float32"), "out_dtype 'float32' must be int32"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_layouts_and_the_shapes(case):
    call, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        relax.BlockBuilder().normalize(call())


def test_a_packed_operator_that_no_kernel_replaced_is_not_built():
    data, weight = np.zeros((1, 1, 4, 4, 4), np.int8), np.zeros((1, 1, 1, 1, 1, 32, 4), np.int8)
    module = module_of(
        lambda x, w: conv2d(x, w, data_layout="NCHW4c", kernel_layout="OIHW1i32o4i", out_layout="NCHW32c"),
        data,
        weight,
    )
    with pytest.raises(tvm.error.InternalError):
        relax.build(module, "llvm")
