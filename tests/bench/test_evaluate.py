"""The NumPy evaluation of a graph: against TVM's own build, onnxruntime and plain loops."""

import itertools
import tracemalloc
from functools import cache

import ml_dtypes
import numpy as np
import onnxruntime
import pytest
import tvm
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tvm import relax
from tvm.script import ir as I  # noqa: N812 - TVMScript's own name
from tvm.script import relax as R  # noqa: N812

from bench.evaluate import OPERATORS, OperatorCall, evaluate, evaluate_all
from bench.evaluate.products import WeightedSums
from bench.operators import ROUNDINGS

op = relax.op


def full_range(shape, dtype, seed=0):
    """Random operands over the whole range of a type, both ends among them; floats are small."""
    generator = np.random.default_rng(seed)
    if dtype == "float32":
        return generator.standard_normal(shape).astype(np.float32)
    limits = np.iinfo(dtype)
    values = generator.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    values.flat[:2] = limits.min, limits.max
    return values


def int_or_float(variable):
    """Type of the sums of a product: int32 for integers."""
    return "float32" if variable.ty.dtype == "float32" else "int32"


def function_of(build, arrays):
    """Make a Relax function of the expression that `build` gives for one variable an array."""
    builder = relax.BlockBuilder()
    parameters = [
        relax.Var(f"x{i}", relax.TensorType(array.shape, str(array.dtype))) for i, array in enumerate(arrays)
    ]
    with builder.function("main", parameters):
        builder.emit_func_output(builder.emit(build(*parameters)))
    return builder.get()


def to_hwnc3c(n, c, h, w):
    return h, w, n, c // 3, c % 3


IMAGE = ((2, 6, 5, 7),)
AGAINST_TVM = {
    # case: (shapes of the inputs, dtypes, expression)
    "add": ([(3, 4), (3, 4)], "int8 int32 float32", op.add),
    "add broadcast": ([(2, 3, 4), (3, 1)], "int32 uint8", op.add),
    "subtract": ([(3, 4), (3, 4)], "int8 uint8 int32", op.subtract),
    "multiply": ([(3, 4), (3, 4)], "int8 int32 float32", op.multiply),
    "divide": ([(3, 4), (3, 4)], "float32", op.divide),
    "maximum": ([(3, 4), (3, 4)], "int8 uint8 int32 float32", op.maximum),
    "minimum": ([(3, 4), (3, 4)], "int8 uint8 int32 float32", op.minimum),
    "negative": ([(3, 4)], "int8 int32 float32", op.negative),
    "relu": ([(3, 4)], "int8 int32 float32", op.nn.relu),
    "clip": ([(3, 4)], "int8 int32 float32", lambda x: op.clip(x, -3, 5)),
    "right shift": ([(3, 4)], "int32", lambda x: op.right_shift(x, relax.const(7, "int32"))),
    "right shift by 31": ([(3, 4)], "int32", lambda x: op.right_shift(x, relax.const(31, "int32"))),
    "left shift": ([(3, 4)], "int32", lambda x: op.left_shift(x, relax.const(5, "int32"))),
    "astype int8": ([(3, 4)], "int32 uint8", lambda x: op.astype(x, "int8")),
    "astype uint8": ([(3, 4)], "int32 int8", lambda x: op.astype(x, "uint8")),
    "astype int32": ([(3, 4)], "int8 uint8 float32", lambda x: op.astype(x, "int32")),
    "astype float32": ([(3, 4)], "int8 uint8 int32", lambda x: op.astype(x, "float32")),
    "sum": (IMAGE, "int32 float32", lambda x: op.sum(x, axis=[2, 3])),
    "sum keeping axes": (IMAGE, "int32", lambda x: op.sum(x, axis=[1], keepdims=True)),
    "sum of all": (IMAGE, "int32", op.sum),
    "mean": (IMAGE, "float32", lambda x: op.mean(x, axis=[2, 3])),
    "matmul": ([(3, 40), (40, 5)], "int8 uint8 int32 float32", lambda x, y: op.matmul(x, y, int_or_float(x))),
    "matmul batched": ([(2, 3, 8), (8, 5)], "int8", lambda x, y: op.matmul(x, y, "int32")),
    "max pool": (IMAGE, "int8 uint8 int32 float32", lambda x: op.nn.max_pool2d(x, (2, 2), (2, 2))),
    "max pool padded": (IMAGE, "int8 int32", lambda x: op.nn.max_pool2d(x, (3, 2), (2, 1), (1, 0, 1, 1))),
    "max pool dilated": (IMAGE, "int8", lambda x: op.nn.max_pool2d(x, (2, 3), (1, 1), dilation=(2, 2))),
    "max pool, ceil mode": (IMAGE, "int8", lambda x: op.nn.max_pool2d(x, (2, 2), (2, 2), ceil_mode=True)),
    "avg pool": (IMAGE, "float32", lambda x: op.nn.avg_pool2d(x, (2, 2), (2, 2))),
    "avg pool padded": (IMAGE, "float32", lambda x: op.nn.avg_pool2d(x, (3, 3), (2, 2), (1, 1, 1, 1))),
    "avg pool, padding counted": (
        IMAGE,
        "float32",
        lambda x: op.nn.avg_pool2d(x, (3, 3), (2, 2), (1, 1, 1, 1), count_include_pad=True),
    ),
    "permute": (IMAGE, "int8", lambda x: op.permute_dims(x, [2, 3, 0, 1])),
    "reverse axes": (IMAGE, "int8", op.permute_dims),
    "reshape": (IMAGE, "int8", lambda x: op.reshape(x, (2, -1))),
    "flatten": (IMAGE, "int8", op.flatten),
    "expand": (IMAGE, "int8", lambda x: op.expand_dims(x, [0, 3])),
    "squeeze": ([(1, 3, 1)], "int8", op.squeeze),
    "squeeze an axis": ([(1, 3, 1)], "int8", lambda x: op.squeeze(x, [2])),
    "broadcast": ([(3, 1)], "int8", lambda x: op.broadcast_to(x, (2, 3, 4))),
    "concat": ([(2, 3), (2, 5)], "int8", lambda x, y: op.concat([x, y], axis=1)),
    "slice": (IMAGE, "int8", lambda x: op.strided_slice(x, [1, 3], [1, -5], [4, -1])),
    "slice with steps": (IMAGE, "int8", lambda x: op.strided_slice(x, [2, 3], [0, 6], [5, 0], [2, -2])),
    "pad": (IMAGE, "int8 int32 float32", lambda x: op.nn.pad(x, [0, 0, 1, 2, 0, 3, 1, 0], pad_value=-7)),
    "pad with 128": (IMAGE, "uint8", lambda x: op.nn.pad(x, [0, 0, 0, 0, 1, 1, 1, 1], pad_value=128)),
    "layout transform": (IMAGE, "int8", lambda x: op.layout_transform(x, to_hwnc3c)),
    "conv2d": (
        [(2, 6, 5, 7), (8, 6, 3, 3)],
        "int8 uint8 float32",
        lambda x, w: op.nn.conv2d(x, w, padding=1, out_dtype=int_or_float(x)),
    ),
    "conv2d, depthwise": (
        [(2, 6, 9, 7), (6, 1, 3, 3)],
        "int8 uint8 float32",
        lambda x, w: op.nn.conv2d(
            x, w, padding=(1, 0, 2, 1), strides=(2, 1), dilation=2, groups=6, out_dtype=int_or_float(x)
        ),
    ),
    "conv2d, grouped": (
        [(2, 6, 5, 7), (9, 2, 3, 3)],
        "int8 float32",
        lambda x, w: op.nn.conv2d(x, w, padding=1, groups=3, out_dtype=int_or_float(x)),
    ),
    "conv2d_transpose": (
        [(2, 6, 5, 4), (6, 3, 3, 2)],
        "int8 uint8 float32",
        lambda x, w: op.nn.conv2d_transpose(
            x, w, strides=(2, 3), padding=(1, 0, 2, 1), out_dtype=int_or_float(x)
        ),
    ),
    "conv2d_transpose, output padding": (
        [(1, 3, 4, 4), (3, 5, 4, 4)],
        "int8 float32",
        lambda x, w: op.nn.conv2d_transpose(
            x, w, strides=3, padding=1, output_padding=(1, 2), out_dtype=int_or_float(x)
        ),
    ),
    "resize by 2": (
        IMAGE,
        "int8 uint8 float32",
        lambda x: op.image.resize2d(
            x,
            (10, 14),
            method="nearest_neighbor",
            coordinate_transformation_mode="asymmetric",
            rounding_method="floor",
        ),
    ),
    "resize by 3, half pixel": (
        IMAGE,
        "int8",
        lambda x: op.image.resize2d(x, (15, 21), method="nearest_neighbor"),
    ),
    "repeat": (IMAGE, "int8", lambda x: op.repeat(x, 3, 2)),
    "repeat all": ([(2, 3)], "int8", lambda x: op.repeat(x, 2)),
    "conv2d in NHWC": (
        [(2, 5, 7, 6), (3, 3, 6, 8)],
        "int8",
        lambda x, w: op.nn.conv2d(x, w, data_layout="NHWC", kernel_layout="HWIO", out_dtype="int32"),
    ),
    "conv2d to int8": ([(2, 6, 5, 7), (8, 6, 3, 3)], "int8", op.nn.conv2d),
}
TVM_CASES = [
    pytest.param(name, dtype, id=f"{name}, {dtype}")
    for name, (_, dtypes, _) in AGAINST_TVM.items()
    for dtype in dtypes.split()
]


@cache
def built_by_tvm():
    """Build every case as a function of one module: one compilation for all of them."""
    functions = {}
    for case in TVM_CASES:
        name, dtype = case.values
        shapes, _, build = AGAINST_TVM[name]
        module = function_of(build, [np.zeros(shape, dtype) for shape in shapes])
        label = f"f{len(functions)}"
        functions[(name, dtype)] = label, module["main"].with_attr("global_symbol", label)
    module = tvm.IRModule(dict(functions.values()))
    return relax.VirtualMachine(relax.build(module, "llvm"), tvm.cpu()), functions


@pytest.mark.parametrize(("name", "dtype"), TVM_CASES)
def test_an_operator_is_what_tvm_computes(name, dtype):
    machine, functions = built_by_tvm()
    shapes = AGAINST_TVM[name][0]
    arrays = [full_range(shape, dtype, seed) for seed, shape in enumerate(shapes)]
    label, function = functions[(name, dtype)]
    expected = machine[label](*map(tvm.runtime.tensor, arrays)).numpy()
    result = evaluate(function, arrays)
    assert result.dtype == expected.dtype
    if result.dtype == np.float32:
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    else:
        np.testing.assert_array_equal(result, expected)


def onnx_run(node, arrays, result=TensorProto.INT32):
    """Run one node in onnxruntime."""
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(node.input, arrays, strict=True)
    ]
    output = helper.make_tensor_value_info(node.output[0], result, None)
    graph = helper.make_graph([node], "one", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip(node.input, arrays, strict=True)))[0]


CONVOLUTIONS = {
    # data shape, weight shape, options
    "1x1": ((2, 8, 4, 4), (16, 8, 1, 1), {}),
    "3x3 padded": ((2, 8, 6, 5), (16, 8, 3, 3), {"padding": (1, 1, 1, 1)}),
    "asymmetric padding": ((1, 3, 6, 5), (5, 3, 3, 2), {"padding": (0, 2, 1, 0)}),
    "stride": ((2, 8, 8, 8), (4, 8, 3, 3), {"strides": (2, 3), "padding": (1, 1, 1, 1)}),
    "dilation": ((1, 3, 9, 9), (4, 3, 3, 3), {"dilation": (2, 3), "padding": (2, 2, 2, 2)}),
    "groups": ((2, 8, 5, 5), (12, 2, 3, 3), {"groups": 4}),
    "depthwise": ((2, 8, 5, 5), (8, 1, 3, 3), {"groups": 8, "padding": (1, 1, 1, 1)}),
    "one channel": ((2, 1, 5, 5), (3, 1, 3, 3), {}),
}


@pytest.mark.parametrize("weight_dtype", ["int8", "uint8"])
@pytest.mark.parametrize("data_dtype", ["int8", "uint8"])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_conv2d_is_conv_integer_of_onnxruntime(case, data_dtype, weight_dtype):
    data_shape, weight_shape, options = CONVOLUTIONS[case]
    data, weight = full_range(data_shape, data_dtype), full_range(weight_shape, weight_dtype, 1)
    module = function_of(lambda x, w: op.nn.conv2d(x, w, out_dtype="int32", **options), [data, weight])
    node = helper.make_node(
        "ConvInteger",
        ["x", "w"],
        ["y"],
        strides=options.get("strides", (1, 1)),
        pads=options.get("padding", (0, 0, 0, 0)),
        dilations=options.get("dilation", (1, 1)),
        group=options.get("groups", 1),
    )
    np.testing.assert_array_equal(evaluate(module, [data, weight]), onnx_run(node, [data, weight]))


@pytest.mark.parametrize("weight_dtype", ["int8", "uint8"])
@pytest.mark.parametrize("data_dtype", ["int8", "uint8"])
def test_matmul_is_matmul_integer_of_onnxruntime(data_dtype, weight_dtype):
    data, weight = full_range((7, 96), data_dtype), full_range((96, 33), weight_dtype, 1)
    module = function_of(lambda x, w: op.matmul(x, w, "int32"), [data, weight])
    expected = onnx_run(helper.make_node("MatMulInteger", ["x", "w"], ["y"]), [data, weight])
    np.testing.assert_array_equal(evaluate(module, [data, weight]), expected)


def test_conv2d_is_its_definition_in_plain_loops():
    data, weight = full_range((1, 4, 4, 5), "int8"), full_range((6, 2, 2, 3), "int8", 1)
    options = {"strides": (2, 1), "padding": (1, 0, 1, 2), "dilation": (2, 1), "groups": 2}
    module = function_of(lambda x, w: op.nn.conv2d(x, w, out_dtype="int32", **options), [data, weight])
    result = evaluate(module, [data, weight])
    assert result.shape == (1, 6, 2, 5)
    for o, y, x in itertools.product(range(6), range(2), range(5)):
        total = 0
        for i, ky, kx in itertools.product(range(2), range(2), range(3)):
            row, column = 2 * y + 2 * ky - 1, x + kx
            if 0 <= row < 4 and 0 <= column < 5:
                total += int(data[0, o // 3 * 2 + i, row, column]) * int(weight[o, i, ky, kx])
        assert result[0, o, y, x] == total


TRANSPOSED = {
    # data shape, weight shape, options
    "2x2 by 2": ((2, 6, 3, 4), (6, 5, 2, 2), {"strides": (2, 2)}),
    "4x4 by 2, padded": ((1, 8, 4, 4), (8, 3, 4, 4), {"strides": (2, 2), "padding": (1, 1, 1, 1)}),
    "asymmetric padding": ((1, 3, 5, 4), (3, 4, 3, 3), {"padding": (0, 2, 1, 0)}),
    "padding beyond the filter": ((1, 3, 9, 9), (3, 4, 1, 2), {"padding": (2, 3, 1, 2)}),
    "output padding": (
        (1, 3, 4, 4),
        (3, 4, 3, 3),
        {"strides": (3, 2), "padding": (1, 1, 1, 1), "output_padding": (2, 1)},
    ),
    "dilation": ((1, 3, 4, 5), (3, 4, 3, 2), {"dilation": (2, 3), "strides": (2, 1)}),
    "groups": ((2, 6, 3, 3), (6, 2, 3, 3), {"groups": 3, "strides": (2, 2)}),
}


def transposed(case, dtype):
    data_shape, weight_shape, options = TRANSPOSED[case]
    data, weight = full_range(data_shape, dtype), full_range(weight_shape, "int8", 1)
    build = {"out_dtype": "int32", **options}
    module = function_of(lambda x, w: op.nn.conv2d_transpose(x, w, **build), [data, weight])
    return data, weight, options, evaluate(module, [data, weight])


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("case", TRANSPOSED)
def test_conv2d_transpose_is_conv_transpose_of_onnxruntime(case, dtype):
    """In float32, whose sums of so few products of bytes are exact."""
    data, weight, options, result = transposed(case, dtype)
    node = helper.make_node(
        "ConvTranspose",
        ["x", "w"],
        ["y"],
        strides=options.get("strides", (1, 1)),
        pads=options.get("padding", (0, 0, 0, 0)),
        output_padding=options.get("output_padding", (0, 0)),
        dilations=options.get("dilation", (1, 1)),
        group=options.get("groups", 1),
    )
    floats = [array.astype(np.float32) for array in (data, weight)]
    np.testing.assert_array_equal(result, onnx_run(node, floats, TensorProto.FLOAT))


@pytest.mark.parametrize("case", TRANSPOSED)
def test_conv2d_transpose_is_its_definition_in_plain_loops(case):
    """Each element of the data adds its multiple of the filter to the result."""
    data, weight, options, result = transposed(case, "int8")
    (top, left, *_), strides = options.get("padding", (0, 0)), options.get("strides", (1, 1))
    dilation, groups = options.get("dilation", (1, 1)), options.get("groups", 1)
    expected = np.zeros_like(result)
    depth = data.shape[1] // groups
    for n, i, y, x in itertools.product(*map(range, data.shape)):
        for o, ky, kx in itertools.product(*map(range, weight.shape[1:])):
            row, column = y * strides[0] + ky * dilation[0] - top, x * strides[1] + kx * dilation[1] - left
            if 0 <= row < result.shape[2] and 0 <= column < result.shape[3]:
                channel = i // depth * weight.shape[1] + o
                expected[n, channel, row, column] += int(data[n, i, y, x]) * int(weight[i, o, ky, kx])
    np.testing.assert_array_equal(result, expected)


def test_a_convolution_of_many_images_is_that_of_each():
    """Images are gathered in groups that fit; the last group is a smaller one."""
    data, weight = full_range((70, 8, 32, 32), "int8"), full_range((4, 8, 3, 3), "int8", 1)
    options = {"padding": 1, "out_dtype": "int32"}
    whole = function_of(lambda x, w: op.nn.conv2d(x, w, **options), [data, weight])
    one = function_of(lambda x, w: op.nn.conv2d(x, w, **options), [data[:1], weight])
    result = evaluate(whole, [data, weight])
    for image in (0, 33, 69):
        np.testing.assert_array_equal(result[image], evaluate(one, [data[image : image + 1], weight])[0])


@given(st.integers(1, 40), st.sampled_from(["int8", "uint8", "int32"]), st.integers(0, 2**32 - 1))
def test_integer_products_are_exact_mod_2_32(depth, dtype, seed):
    left, right = full_range((2, depth + 1), dtype, seed), full_range((depth + 1, 3), dtype, seed + 1)
    module = function_of(lambda x, y: op.matmul(x, y, "int32"), [left, right])
    expected = [
        [sum(int(a) * int(b) for a, b in zip(row, column, strict=True)) for column in right.T] for row in left
    ]
    wrapped = [[(total + 2**31) % 2**32 - 2**31 for total in row] for row in expected]
    assert evaluate(module, [left, right]).tolist() == wrapped


def test_a_product_that_leaves_int32_wraps():
    # 33026 · 255 · 255 is the first uint8 sum beyond 2^31 - 1.
    left, right = np.full((1, 33026), 255, np.uint8), np.full((33026, 1), 255, np.uint8)
    module = function_of(lambda x, y: op.matmul(x, y, "int32"), [left, right])
    assert evaluate(module, [left, right]).item() == 33026 * 255 * 255 - 2**32


@pytest.mark.parametrize(
    ("depth", "dtype", "working", "slices"),
    [
        (1024, "int8", np.float32, 1),
        (1025, "int8", np.float32, 2),
        (258, "uint8", np.float32, 1),
        (259, "uint8", np.float32, 2),
        (33026, "uint8", np.float64, 1),
        (1, "int32", np.int64, 1),
    ],
)
def test_a_sum_is_cut_where_it_could_leave_the_floats_that_are_integers(depth, dtype, working, slices):
    end = max(abs(int(np.iinfo(dtype).min)), int(np.iinfo(dtype).max))
    weight = np.full((2, depth), np.iinfo(dtype).min or end, dtype)
    sums = WeightedSums(weight, end)
    assert (sums.working, len(sums.slices)) == (working, slices)
    for part in sums.slices if working is np.float32 else ():
        assert (part.stop - part.start) * end * end <= 2**24
    terms = np.full((depth, 1), end, sums.working)
    total = depth * end * int(weight[0, 0])
    assert [int(value) % 2**32 for value in sums.of(terms)[:, 0]] == [total % 2**32] * 2


def test_what_the_weights_are_decides_and_not_what_they_could_be():
    weight = np.ones((1, 2**17), np.int8)
    assert len(WeightedSums(weight, 127).slices) == 1
    weight[0, ::2] = -128
    assert len(WeightedSums(weight, 127).slices) > 60


def test_int4_operands():
    data = np.arange(-8, 8).reshape(2, 8).astype(ml_dtypes.int4)
    weight = np.full((8, 1), -8).astype(ml_dtypes.int4)
    module = function_of(lambda x, y: op.matmul(x, y, "int32"), [data, weight])
    assert evaluate(module, [data, weight]).tolist() == [[8 * 36], [-8 * 28]]


@I.ir_module
class Nested:  # its functions are TVMScript: they take no self
    """A private function, a tuple and a name that comes twice."""

    @R.function(private=True)
    def scaled(x: R.Tensor((3,), "int32"), y: R.Tensor((3,), "int32")) -> R.Tensor((3,), "int32"):  # noqa: N805
        with R.dataflow():
            twice = R.add(x, x)
            total = R.add(twice, y)
            R.output(total)
        return total

    @R.function
    def main(a: R.Tensor((3,), "int32"), b: R.Tensor((3,), "int32")) -> R.Tuple(  # noqa: N805
        R.Tensor((3,), "int32"), R.Tensor((6,), "int32")
    ):
        cls = Nested
        with R.dataflow():
            first = cls.scaled(a, b)
            pair = (first, b)
            second = cls.scaled(pair[1], pair[0])
            joined = R.concat((first, second), axis=0)
            parts = R.split(joined, 2, axis=0)
            result = (parts[1], joined)
            R.output(result)
        return result


A, B = np.array([1, 2, 3], np.int32), np.array([10, 20, 30], np.int32)


def test_functions_and_tuples_are_followed():
    part, joined = evaluate(Nested, [A, B])
    assert part.tolist() == (2 * B + 2 * A + B).tolist()
    assert joined.tolist() == [*(2 * A + B).tolist(), *part.tolist()]


def test_every_binding_is_recorded_under_its_name_in_order():
    record = evaluate_all(Nested, {"a": A, "b": B})
    names = list(record)
    assert names[:3] == ["first/twice", "first/total", "first"]
    assert [name for name in names if name.startswith("second")] == ["second/twice", "second/total", "second"]
    assert {"joined", "parts.0", "parts.1", "result.0", "result.1"} <= set(names)
    np.testing.assert_array_equal(record["second/twice"], 2 * B)
    given_record = {}
    evaluate(Nested, [A, B], record=given_record)
    assert list(given_record) == names


def test_a_record_of_some_names_is_that_part_of_the_whole():
    record = evaluate_all(Nested, [A, B], only={"second/twice", "parts.1", "first"})
    assert list(record) == ["first", "second/twice", "parts.1"]
    whole = evaluate_all(Nested, [A, B])
    for name, value in record.items():
        np.testing.assert_array_equal(value, whole[name])


def test_a_tensor_is_given_up_after_its_last_use():
    """Forty images of 4 MB in a row: an evaluation that records nothing holds a few of them."""
    data = np.zeros((1, 1, 1024, 1024), np.int32)

    def chain(x):
        for _ in range(40):
            x = op.add(x, x)
        return x

    function = function_of(chain, [data])
    tracemalloc.start()
    evaluate(function, data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * data.nbytes


def test_another_function_than_main_can_be_evaluated():
    assert evaluate(Nested, [A, B], function="scaled").tolist() == (2 * A + B).tolist()


def test_an_override_takes_the_place_of_an_operator():
    calls: list[OperatorCall] = []

    def saturating(call: OperatorCall) -> np.ndarray:
        calls.append(call)
        return np.minimum(call.default(), 25)

    part, _ = evaluate(Nested, [A, B], overrides={"relax.add": saturating})
    assert part.max() == 25
    assert [call.name for call in calls] == ["first/twice", "first/total", "second/twice", "second/total"]
    assert (calls[0].operator, calls[0].shape, calls[0].dtype) == ("relax.add", (3,), "int32")
    assert calls[0].result_dtype == np.int32


def test_an_override_sees_arguments_and_attributes_as_plain_values():
    data, weight = np.ones((1, 2, 4, 4), np.int8), np.ones((3, 2, 3, 3), np.int8)
    module = function_of(
        lambda x, w: op.nn.conv2d(x, w, strides=2, padding=1, out_dtype="int32"), [data, weight]
    )
    seen = []
    evaluate_all(
        module,
        [data, weight],
        overrides={"relax.nn.conv2d": lambda call: seen.append(call) or call.default()},
    )
    (call,) = seen
    np.testing.assert_array_equal(call.arguments[1], weight)
    assert call.attributes == {
        "strides": (2, 2),
        "padding": (1, 1, 1, 1),
        "dilation": (1, 1),
        "groups": 1,
        "data_layout": "NCHW",
        "kernel_layout": "OIHW",
        "out_layout": "NCHW",
        "out_dtype": "int32",
    }


def test_an_override_can_give_an_operator_that_numpy_has_not():
    module = function_of(op.exp, [np.zeros(3, np.float32)])
    overrides = {"relax.exp": lambda call: np.exp(call.arguments[0])}
    assert evaluate(module, np.zeros(3, np.float32), overrides=overrides).tolist() == [1, 1, 1]


def shifted_by(amount):
    return function_of(lambda x: op.right_shift(x, relax.const(amount, "int32")), [A])


def run(build, *arrays, **options):
    return lambda: evaluate(function_of(build, arrays), list(arrays), **options)


BYTES = np.zeros((1, 2, 4, 4), np.int8)
ERRORS = {
    "no such function": (
        lambda: evaluate(Nested, [A, B], function="f"),
        ValueError,
        "no Relax function 'f'; it has main, scaled",
    ),
    "too few inputs": (lambda: evaluate(Nested, [A]), ValueError, r"'main' takes 2 inputs \(a, b\), not 1"),
    "input names": (
        lambda: evaluate(Nested, {"a": A, "c": B}),
        ValueError,
        r"\['a', 'c'\] of 'main' must be exactly .*\['a', 'b'\]",
    ),
    "input shape": (
        lambda: evaluate(Nested, [A, B[:2]]),
        ValueError,
        r"input 'b' of 'main' is int32\[2\]; the graph says int32\[3\]",
    ),
    "input dtype": (
        lambda: evaluate(Nested, [A, B.astype(np.int64)]),
        ValueError,
        r"input 'b' of 'main' is int64\[3\]",
    ),
    "operator": (
        run(op.exp, np.zeros(3, np.float32)),
        NotImplementedError,
        "'relax.exp' .binding '.*'.; known are bitexact.batch_matmul",
    ),
    "override shape": (
        run(op.add, A, A, overrides={"relax.add": lambda call: A[:2]}),
        ValueError,
        r"relax.add in '.*' is int32\[2\]; the graph says int32\[3\]",
    ),
    "override dtype": (
        run(op.add, A, A, overrides={"relax.add": lambda call: A / 2}),
        ValueError,
        r"is float64\[3\]",
    ),
    "override type": (
        run(op.add, A, A, overrides={"relax.add": lambda call: None}),
        ValueError,
        "is None; the graph says",
    ),
    "shift by 32": (lambda: evaluate(shifted_by(32), A), ValueError, r"a shift of int32 must be in 0\.\.31"),
    "shift by -1": (lambda: evaluate(shifted_by(-1), A), ValueError, r"a shift of int32 must be in 0\.\.31"),
    "clip beyond the type": (
        run(lambda x: op.clip(x, 0, 200), BYTES),
        ValueError,
        r"relax.clip .* 0\.\.200 is not a range of int8",
    ),
    "pad beyond the type": (
        run(lambda x: op.nn.pad(x, [0] * 8, pad_value=128), BYTES),
        ValueError,
        "128.* is not a value of int8",
    ),
    "pad mode": (
        run(lambda x: op.nn.pad(x, [0] * 6 + [1, 1], "reflect"), BYTES),
        ValueError,
        "mode 'reflect' is not evaluated",
    ),
    "resize way": (
        run(lambda x: op.image.resize2d(x, (8, 8)), BYTES),
        ValueError,
        "resize2d .* linear, half_pixel, round to 8 of 4 is not evaluated; nearest_neighbor is",
    ),
    "resize factor": (
        run(lambda x: op.image.resize2d(x, (6, 8), method="nearest_neighbor"), BYTES),
        ValueError,
        "to 6 of 4 is not evaluated",
    ),
    "integer mean": (run(lambda x: op.mean(x, [2, 3]), BYTES), ValueError, "relax.mean .* not of int8"),
    "integer average": (
        run(lambda x: op.nn.avg_pool2d(x, (2, 2)), BYTES),
        ValueError,
        "relax.nn.avg_pool2d .* not of int8",
    ),
    "result dtype": (
        lambda: OperatorCall(operator="relax.split", name="x", arguments=()).result_dtype,
        ValueError,
        "'x': the graph does not give",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_operator_and_the_binding(case):
    call, kind, message = ERRORS[case]
    with pytest.raises(kind, match=message):
        call()


def test_a_lowered_call_is_named_as_what_cannot_be_evaluated():
    lowered = relax.transform.LegalizeOps()(function_of(op.nn.relu, [A]))
    with pytest.raises(NotImplementedError, match=r"relax\.call_tir"):
        evaluate(lowered, A)


def test_the_table_holds_what_the_graphs_of_the_bench_use():
    assert {
        "relax.nn.conv2d",
        "relax.matmul",
        "bitexact.requantize",
        "bitexact.conv2d",
        "bitexact.dense",
    } <= set(OPERATORS)
    assert ROUNDINGS == ("half_up", "half_even", "double", "floor")
