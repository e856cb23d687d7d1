"""Conversion to HWNC: what is converted, what is not and why, and that no value changes."""

import numpy as np
import pytest
import tvm
from tvm import relax

from bench.evaluate import evaluate
from bench.passes import LayoutConfig, convert_layout, recast
from tests.bench.integer_graphs import module_of
from tests.bench.small_networks import small_resnet

op = relax.op
HWNC = {"relax.nn.conv2d": ["HWNC", "default"]}

NHWC_PARAMETERS = {
    "data": ((1, 56, 56, 64), "float32"),
    "weight1": ((3, 3, 64, 64), "float32"),
    "weight2": ((3, 3, 64, 64), "float32"),
}


def before(emit, data, weight1, weight2):  # type: ignore[no-untyped-def]
    layouts = {"data_layout": "NHWC", "kernel_layout": "HWIO"}
    x = emit("relu1", op.nn.relu(emit("conv1", op.nn.conv2d(data, weight1, padding=1, **layouts))))
    return emit("relu2", op.nn.relu(emit("conv2", op.nn.conv2d(x, weight2, padding=1, **layouts))))


def test_the_first_of_two_layers_is_skipped() -> None:
    """The graph of the test of TVM's PR #6748."""
    builder = relax.BlockBuilder()
    variables = [relax.Var(name, relax.TensorType(*spec)) for name, spec in NHWC_PARAMETERS.items()]
    data, weight1, weight2 = variables
    with builder.function("main", variables):
        with builder.dataflow():
            x = builder.emit(op.nn.conv2d(data, weight1, padding=1, data_layout="NHWC", kernel_layout="HWIO"))
            x = builder.emit(op.permute_dims(builder.emit(op.nn.relu(x)), [1, 2, 0, 3]))
            weight = builder.emit(op.permute_dims(weight2, [0, 1, 3, 2]))
            x = builder.emit(op.nn.conv2d(x, weight, padding=1, data_layout="HWNC", kernel_layout="HWOI"))
            x = builder.emit(op.nn.relu(x))
            output = builder.emit_output(op.permute_dims(x, [2, 0, 1, 3]))
        builder.emit_func_output(output)
    module = module_of(NHWC_PARAMETERS, before)
    with LayoutConfig(skip_layers=[0]) as config:
        got = convert_layout(module, HWNC)
    tvm.ir.assert_structural_equal(got, builder.get())
    assert [str(entry) for entry in config.report] == [
        "layer 0 conv1: NHWC HWIO kept: it is skipped",
        "layer 1 conv2: HWNC HWOI",
    ]


def constant(*shape: int) -> relax.Expr:
    values = np.random.default_rng(sum(shape)).integers(-8, 8, shape)
    return relax.const(values.astype(np.float32))


def mixed(emit, data):  # type: ignore[no-untyped-def]
    """Convolutions with groups between others, pooling, a split, a concatenation, and a dense layer."""
    x = emit("conv1", op.nn.conv2d(data, constant(16, 8, 3, 3), padding=1))
    x = emit("relu1", op.nn.relu(emit("bias1", op.add(x, constant(1, 16, 1, 1)))))
    pool = emit("pool", op.nn.max_pool2d(x, (2, 2), (2, 2)))
    x = emit("depthwise", op.nn.conv2d(pool, constant(16, 1, 3, 3), padding=1, groups=16))
    x = emit("grouped", op.nn.conv2d(x, constant(16, 4, 3, 3), padding=1, groups=4))
    parts = emit("parts", op.split(emit("sum", op.add(pool, x)), 2, 1))
    x = emit("joined", op.concat(parts, 1))
    x = emit(
        "conv2",
        op.nn.conv2d(x, constant(16, 16, 3, 2), padding=(0, 1, 2, 1), dilation=(2, 1), strides=(2, 1)),
    )
    return emit("dense", op.matmul(emit("mean", op.mean(x, [2, 3])), constant(16, 10)))


MIXED = module_of({"data": ((2, 8, 9, 9), "float32")}, mixed)


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).integers(-8, 8, shape).astype(np.float32)


def test_grouped_convolutions_keep_their_layout_and_say_so() -> None:
    with LayoutConfig() as config:
        got = convert_layout(MIXED, HWNC)
    relax.analysis.well_formed(got)
    assert [
        (entry.name, entry.data_layout, entry.kernel_layout, entry.why_kept) for entry in config.report
    ] == [
        ("conv1", "HWNC", "HWOI", None),
        ("depthwise", "NCHW", "OIHW", "it is depthwise"),
        ("grouped", "NCHW", "OIHW", "it has 4 groups"),
        ("conv2", "HWNC", "HWOI", None),
    ]
    data = images(2, 8, 9, 9)
    np.testing.assert_allclose(evaluate(got, data), evaluate(MIXED, data), rtol=1e-6)


@pytest.mark.parametrize(
    "layouts", [["HWNC", "default"], ["NHWC", "default"], ["NHWC", "OHWI"], ["HWNC", "HWIO"]]
)
@pytest.mark.parametrize("skip", [[], [0], [-1], [1, 2]], ids=str)
def test_values_stay(layouts: list[str], skip: list[int]) -> None:
    with LayoutConfig(skip) as config:
        got = convert_layout(MIXED, {"nn.conv2d": layouts})
    data = images(2, 8, 9, 9)
    np.testing.assert_allclose(evaluate(got, data), evaluate(MIXED, data), rtol=1e-6)
    expected = [index for index in (0, 3) if index not in [position % 4 for position in skip]]
    assert [entry.index for entry in config.report if entry.why_kept is None] == expected


KERNELS = [
    ("HWNC", "default", "HWOI"),
    ("NHWC", "default", "HWIO"),
    ("HWNC", "OIHW", "OIHW"),
    ("NCHW", "HWIO", "HWIO"),
]


@pytest.mark.parametrize(("data", "kernel", "expected"), KERNELS)
def test_the_kernel_layout(data: str, kernel: str, expected: str) -> None:
    got = convert_layout(MIXED, {"relax.nn.conv2d": [data, kernel]})
    calls = [binding.value for block in got["main"].body.blocks for binding in block.bindings]
    layers = [call for call in calls if isinstance(call, relax.Call) and call.op.name == "relax.nn.conv2d"]
    converted = [layer for layer in layers if int(layer.attrs.groups) == 1]
    assert {(str(layer.attrs.data_layout), str(layer.attrs.kernel_layout)) for layer in converted} == {
        (data, expected)
    }


ERRORS = [
    ({"relax.nn.conv2d": ["default", "default"]}, "the data layout must be named"),
    ({"relax.nn.conv2d": ["default", "HWOI"]}, "the data layout must be named"),
    ({"relax.nn.conv2d": ["WHNC", "default"]}, "'WHNC' has no default kernel layout; .* HWNC, NCHW, NHWC"),
    ({"relax.nn.conv2d": ["HWNX", "HWOI"]}, "data layout 'HWNX' must be the axes NCHW"),
    ({"relax.nn.conv2d": ["HWNC", "HWOO"]}, "named twice"),
    ({"relax.nn.conv2d": ["HWNC", "HWOX"]}, "kernel layout 'HWOX' must be the axes OIHW"),
    ({"relax.nn.conv2d": ["HWNC16c", "HWOI"]}, "data layout 'HWNC16c' must be the axes"),
    ({"relax.nn.conv2d": ["HWNC"]}, r"must be \[data, kernel\]"),
    ({"relax.nn.conv2d": "HWNC"}, r"must be \[data, kernel\]"),
    ({"relax.nn.conv1d": ["NCW", "default"]}, "not .*relax.nn.conv1d"),
    ({}, "not nothing"),
]


@pytest.mark.parametrize(("desired", "message"), ERRORS, ids=[str(case[0]) for case in ERRORS])
def test_bad_layouts(desired, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        convert_layout(MIXED, desired)


def test_a_layer_outside_a_dataflow_block_is_reported() -> None:
    module = relax.transform.ToNonDataflow()(MIXED)
    with LayoutConfig([0]) as config:
        got = convert_layout(module, HWNC)
    assert [entry.why_kept for entry in config.report] == [
        "it is skipped",
        "it is depthwise",
        "it has 4 groups",
        "it stands outside a dataflow block",
    ]
    tvm.ir.assert_structural_equal(got, module)


def test_a_converted_graph_is_not_converted_again() -> None:
    once = convert_layout(MIXED, HWNC)
    with LayoutConfig() as config:
        twice = convert_layout(once, HWNC)
    assert [entry.why_kept for entry in config.report][::3] == ["it has these layouts"] * 2
    tvm.ir.assert_structural_equal(twice, once)


@pytest.mark.parametrize("depth", [18, 50])
def test_a_resnet_with_its_first_layer_skipped(depth: int) -> None:
    workload = small_resnet(depth, image=32)
    module = workload.module
    with LayoutConfig(skip_layers=[0]) as config:
        got = convert_layout(module, HWNC)
    relax.analysis.well_formed(got)
    assert [entry.why_kept for entry in config.report] == ["it is skipped"] + [None] * (
        len(config.report) - 1
    )
    assert len(config.report) == {18: 20, 50: 53}[depth]
    images = workload.images
    np.testing.assert_allclose(evaluate(got, images), evaluate(module, images), rtol=1e-3, atol=1e-4)
    # Then the same layers become integers: one index for both passes.
    cast = recast(got, "int8", "int32", skip_layers=[0])
    calls = [binding.value for block in cast["main"].body.blocks for binding in block.bindings]
    layers = [call for call in calls if isinstance(call, relax.Call) and call.op.name == "relax.nn.conv2d"]
    assert [(str(layer.attrs.data_layout), str(layer.ty.dtype)) for layer in layers] == [
        ("NCHW", "float32"),
        *[("HWNC", "int32")] * (len(layers) - 1),
    ]
