"""Recast: casts in, the layer, a cast back; which layers are left alone."""

import numpy as np
import pytest
import tvm
from tvm import relax

from bench.evaluate import evaluate
from bench.passes import count_layers, recast
from tests.bench.integer_graphs import module_of
from tests.bench.small_networks import small_resnet
from tests.bench.test_count_layers import graph

op = relax.op

DATA = ((8, 8, 8, 8), "float32")
WEIGHT = ((8, 8, 3, 3), "float32")


def wrapped(emit, data, weight, *, dtype="int8", out_dtype="int32"):  # type: ignore[no-untyped-def]
    """What recast makes of one convolution."""
    x = emit("x", op.astype(data, dtype))
    w = emit("w", op.astype(weight, dtype))
    layer = emit("layer", op.nn.conv2d(x, w, padding=1, out_dtype=out_dtype))
    return emit("back", op.astype(layer, "float32"))


def plain(emit, data, weight):  # type: ignore[no-untyped-def]
    return emit("layer", op.nn.conv2d(data, weight, padding=1))


def two(first, second):  # type: ignore[no-untyped-def]
    return module_of(
        {"data": DATA, "weight1": WEIGHT, "weight2": WEIGHT},
        lambda emit, data, one, other: second(emit, first(emit, data, one), other),
    )


def one(layer):  # type: ignore[no-untyped-def]
    return module_of({"data": DATA, "weight": WEIGHT}, layer)


def check(got, expected) -> None:  # type: ignore[no-untyped-def]
    relax.analysis.well_formed(got)
    tvm.ir.assert_structural_equal(got, expected)


@pytest.mark.parametrize("dtype", ["int8", "int4", "uint4", "float16"])
def test_one_convolution(dtype: str) -> None:
    out = "float16" if dtype == "float16" else "int32"
    expected = one(lambda *arguments: wrapped(*arguments, dtype=dtype, out_dtype=out))
    check(recast(one(plain), dtype, out), expected)


def test_two_convolutions() -> None:
    check(recast(two(plain, plain), "int8", "int32"), two(wrapped, wrapped))


def _spelt(value) -> str:  # type: ignore[no-untyped-def]
    return getattr(value, "__name__", str(value))


SKIPS = [
    ([0], plain, wrapped),
    ([1], wrapped, plain),
    ([-1], wrapped, plain),
    ([-2], plain, wrapped),
    ([0, 0, -2], plain, wrapped),
    ([0, -1], plain, plain),
    ([], wrapped, wrapped),
    (None, wrapped, wrapped),
]


@pytest.mark.parametrize(("skip", "first", "second"), SKIPS, ids=_spelt)
def test_skipped_layers_stay(skip, first, second) -> None:  # type: ignore[no-untyped-def]
    check(recast(two(plain, plain), "int8", "int32", skip_layers=skip), two(first, second))


@pytest.mark.parametrize("index", [2, -3, 99])
def test_an_index_out_of_range_names_the_range(index: int) -> None:
    with pytest.raises(IndexError, match=rf"layer {index} is out of range; the range is -2\.\.1"):
        recast(two(plain, plain), "int8", "int32", skip_layers=[index])


def test_no_index_is_in_range_where_there_is_no_layer() -> None:
    with pytest.raises(ValueError, match="the range is empty"):
        recast(two(plain, plain), "int8", "int32", ["relax.matmul"], skip_layers=[0])


def test_the_list_of_the_caller_is_not_changed() -> None:
    skip = [-1, 0]
    recast(two(plain, plain), "int8", "int32", skip_layers=skip)
    assert skip == [-1, 0]
    # The same list on a deeper network skips that network's last layer.
    deep = graph(lambda conv, _, x: conv(conv(conv(x))))
    assert recast_layers(deep, skip_layers=skip) == [False, True, False]


def recast_layers(module, **options):  # type: ignore[no-untyped-def]
    """Of each convolution, in order, whether it was recast."""
    function = recast(module, "int8", "int32", **options)["main"]
    calls = [binding.value for block in function.body.blocks for binding in block.bindings]
    return [
        str(call.attrs.out_dtype) == "int32"
        for call in calls
        if isinstance(call, relax.Call) and call.op.name == "relax.nn.conv2d"
    ]


def concatenation(emit, data, other):  # type: ignore[no-untyped-def]
    return emit("joined", op.concat((data, other), 1))


def concatenation_of_a_variable(emit, data, other):  # type: ignore[no-untyped-def]
    return emit("joined", op.concat(emit("pair", relax.Tuple([data, other])), 1))


def recast_concatenation(emit, data, other):  # type: ignore[no-untyped-def]
    fields = [emit(name, op.astype(field, "float16")) for name, field in (("a", data), ("b", other))]
    return emit("back", op.astype(emit("joined", op.concat(fields, 1)), "float32"))


def recast_concatenation_of_a_variable(emit, data, other):  # type: ignore[no-untyped-def]
    pair = emit("pair", relax.Tuple([data, other]))
    fields = []
    for index in range(2):
        field = emit("field", relax.TupleGetItem(pair, index))
        fields.append(emit("cast", op.astype(field, "float16")))
    return emit("back", op.astype(emit("joined", op.concat(fields, 1)), "float32"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (concatenation, recast_concatenation),
        (concatenation_of_a_variable, recast_concatenation_of_a_variable),
    ],
    ids=["literal", "variable"],
)
def test_the_tuple_of_a_concatenation_is_cast_field_by_field(before, after) -> None:  # type: ignore[no-untyped-def]
    parameters = {"data": ((1, 4), "float32"), "other": ((1, 4), "float32")}
    got = recast(module_of(parameters, before), "float16", "float32", ops=["concat"])
    check(got, module_of(parameters, after))


def test_the_fields_of_a_split_are_cast_back() -> None:
    def before(emit, data):  # type: ignore[no-untyped-def]
        return emit("second", relax.TupleGetItem(emit("parts", op.split(data, 2, 1)), 1))

    module = module_of({"data": ((1, 4), "float32")}, before)
    got = recast(module, "int8", "int32", ops=["relax.split"])
    relax.analysis.well_formed(got)
    data = np.array([[1.5, -2.5, 3.9, -4.9]], np.float32)
    assert evaluate(got, data).tolist() == [[3, -4]]
    assert evaluate(got, data).dtype == np.float32


def test_operators_without_out_dtype() -> None:
    def before(emit, data, weight):  # type: ignore[no-untyped-def]
        return emit("relu", op.nn.relu(plain(emit, data, weight)))

    def after(emit, data, weight):  # type: ignore[no-untyped-def]
        layer = wrapped(emit, data, weight, dtype="float16", out_dtype="float16")
        half = emit("half", op.astype(layer, "float16"))
        return emit("back", op.astype(emit("relu", op.nn.relu(half)), "float32"))

    got = recast(one(before), "float16", "float16", ops=["relax.nn.conv2d", "relax.nn.relu"])
    check(got, one(after))


def test_a_tensor_that_has_the_type_is_not_cast_again() -> None:
    def integer(emit, data, weight):  # type: ignore[no-untyped-def]
        return emit("layer", op.nn.conv2d(data, weight, out_dtype="int32"))

    module = module_of({"data": ((1, 4, 4, 4), "int8"), "weight": ((4, 4, 1, 1), "int8")}, integer)
    check(recast(module, "int8", "int32"), module)


def test_values_are_truncated_towards_zero() -> None:
    module = module_of(
        {"data": ((1, 1, 1, 4), "float32"), "weight": ((1, 1, 1, 1), "float32")},
        lambda emit, data, weight: emit("conv", op.nn.conv2d(data, weight)),
    )
    data = np.array([-7.9, -0.5, 0.9, 2.5], np.float32).reshape(1, 1, 1, 4)
    weight = np.full((1, 1, 1, 1), 3.99, np.float32)
    for dtype in ("int8", "int4"):
        got = evaluate(recast(module, dtype, "int32"), [data, weight])
        assert got.ravel().tolist() == [-21, 0, 0, 6]


# Index of each convolution, in order of execution, by index_by.
INDICES = [
    ("chain", lambda conv, emit, x: conv(conv(conv(x))), [0, 1, 2]),
    ("short branch", lambda conv, emit, x: emit("sum", op.add(conv(conv(conv(x))), conv(x))), [0, 1, 2, 2]),
    ("inception", lambda conv, emit, x: conv(emit("sum", op.add(conv(x), conv(x)))), [0, 0, 1]),
    ("tuple", lambda conv, emit, x: emit("c", op.concat((conv(conv(x)), conv(x)), 1)), [0, 1, 1]),
]


@pytest.mark.parametrize(
    ("build", "depths"), [case[1:] for case in INDICES], ids=[case[0] for case in INDICES]
)
def test_the_index_of_a_layer(build, depths: list[int]) -> None:  # type: ignore[no-untyped-def]
    module = graph(build)
    for order in range(len(depths)):
        expected = [position != order for position in range(len(depths))]
        assert recast_layers(module, skip_layers=[order]) == expected
        assert recast_layers(module, skip_layers=[order - len(depths)], index_by="order") == expected
    longest = count_layers(module, ["relax.nn.conv2d"])
    for depth in range(longest):
        expected = [index != depth for index in depths]
        assert recast_layers(module, skip_layers=[depth], index_by="depth") == expected
        assert recast_layers(module, skip_layers=[depth - longest], index_by="depth") == expected
    with pytest.raises(IndexError, match=rf"the range is {-longest}\.\.{longest - 1}"):
        recast_layers(module, skip_layers=[longest], index_by="depth")


def test_a_weight_that_a_layer_makes_has_an_index_of_its_own() -> None:
    def build(conv, emit, x):  # type: ignore[no-untyped-def]
        made = emit("made", op.reshape(op.nn.avg_pool2d(conv(x), (2, 2)), (1, 4, 1, 1)))
        return emit("conv", op.nn.conv2d(x, made))

    for index_by in ("order", "depth"):
        assert recast_layers(graph(build), skip_layers=[0], index_by=index_by) == [False, True]


def test_index_by_has_two_values() -> None:
    with pytest.raises(ValueError, match="index_by 'name' is none of order, depth"):
        recast(one(plain), "int8", "int32", index_by="name")


def two_functions() -> tvm.IRModule:
    """`main` calls `block` twice around a convolution; `unused` has a convolution too."""
    builder = relax.BlockBuilder()
    tensor, kernel = relax.TensorType((1, 4, 2, 2), "float32"), relax.TensorType((4, 4, 1, 1), "float32")

    def parameters():  # type: ignore[no-untyped-def]
        return [relax.Var("x", tensor), relax.Var("w", kernel)]

    for name in ("block", "unused"):
        x, w = parameters()
        with builder.function(name, [x, w], private=True):
            with builder.dataflow():
                y = builder.emit(op.nn.conv2d(x, w))
                # The builder would make two equal functions one.
                output = builder.emit_output(y if name == "block" else op.nn.relu(y))
            builder.emit_func_output(output)
    block = builder.get().get_global_var("block")
    x, w = parameters()
    with builder.function("main", [x, w]):
        x = builder.emit(relax.Call(block, [x, w]))
        x = builder.emit(op.nn.conv2d(x, w))
        builder.emit_func_output(builder.emit(relax.Call(block, [x, w])))
    return builder.get()


@pytest.mark.parametrize(
    ("skip", "block", "main"), [([0], False, True), ([1], True, False), ([-1], True, False)]
)
def test_a_layer_in_a_function_counts_where_it_is_first_called(skip, block: bool, main: bool) -> None:  # type: ignore[no-untyped-def]
    got = recast(two_functions(), "int8", "int32", skip_layers=skip)
    relax.analysis.well_formed(got)
    cast = {name: "astype" in got[name].script() for name in ("block", "main", "unused")}
    assert cast == {"block": block, "main": main, "unused": False}


def test_other_functions_and_the_module_itself_stay() -> None:
    module = two_functions().with_attr("note", "kept")
    before = module.script()
    got = recast(module, "int8", "int32")
    assert {variable.name_hint for variable in got.functions} == {"main", "block", "unused"}
    assert got.attrs["note"] == "kept"
    assert module.script() == before
    tvm.ir.assert_structural_equal(got["unused"], module["unused"])


def test_a_function_gives_a_function() -> None:
    module = one(plain)
    got = recast(module["main"], "int8", "int32")
    tvm.ir.assert_structural_equal(got, one(wrapped)["main"])
    nameless = module["main"].without_attr("global_symbol")
    assert "global_symbol" not in (recast(nameless, "int8", "int32").attrs or {})


def test_unknown_operators_are_named() -> None:
    with pytest.raises(ValueError, match=r"'concatenate' \(relax\.concat in Relax\)"):
        recast(one(plain), "int8", "int32", ops=["concatenate"])


def test_a_recast_resnet_computes_in_integers() -> None:
    workload = small_resnet(18)
    got = recast(workload.module, "int8", "int32", skip_layers=[0])
    calls = [binding.value for block in got["main"].body.blocks for binding in block.bindings]
    layers = [c for c in calls if isinstance(c, relax.Call) and c.op.name == "relax.nn.conv2d"]
    assert [str(layer.ty.dtype) for layer in layers] == ["float32"] + ["int32"] * 19
    assert evaluate(got, workload.images).shape == (1, 1000)


def test_no_two_tensors_share_a_name() -> None:
    def before(emit, data, weight):  # type: ignore[no-untyped-def]
        return emit("lv1", op.nn.conv2d(emit("lv", plain(emit, data, weight)), weight, padding=1))

    once = recast(one(before), "int8", "int32", skip_layers=[0])
    for module in (once, recast(once, "int4", "int32", skip_layers=[1])):
        names = [binding.var.name for block in module["main"].body.blocks for binding in block.bindings]
        assert len(set(names)) == len(names)
        assert "lv1" in names
    assert "lv1_int32" in [binding.var.name for binding in once["main"].body.blocks[0].bindings]
