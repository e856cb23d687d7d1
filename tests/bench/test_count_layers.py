"""Layers of a network are those on its longest chain."""

import pytest
import tvm
from tvm import relax

from bench.passes import count_layers
from tests.bench.integer_graphs import module_of
from tests.bench.small_networks import small_resnet

op = relax.op
CONV = ["relax.nn.conv2d"]


def graph(build):  # type: ignore[no-untyped-def]
    """A module of 1x1 convolutions: `build(conv, emit, data)`, where `conv` emits one more of them."""

    def body(emit, data, weight):  # type: ignore[no-untyped-def]
        return build(lambda x: emit("conv", op.nn.conv2d(x, weight)), emit, data)

    return module_of({"data": ((1, 4, 2, 2), "float32"), "weight": ((4, 4, 1, 1), "float32")}, body)


def chain(conv, emit, x):  # type: ignore[no-untyped-def]
    return conv(conv(conv(x)))


def residual(conv, emit, x):  # type: ignore[no-untyped-def]
    a = conv(x)
    return emit("sum", op.add(conv(a), a))


def residual_shared_node_first(conv, emit, x):  # type: ignore[no-untyped-def]
    a = conv(x)
    return emit("sum", op.add(a, conv(a)))


def shortcut_first(conv, emit, x):  # type: ignore[no-untyped-def]
    stem = conv(x)
    return emit("sum", op.add(conv(stem), conv(conv(stem))))


def shortcut_second(conv, emit, x):  # type: ignore[no-untyped-def]
    stem = conv(x)
    return emit("sum", op.add(conv(conv(stem)), conv(stem)))


def parallel_in_a_tuple(conv, emit, x):  # type: ignore[no-untyped-def]
    return emit("joined", op.concat((conv(x), conv(x)), 1))


def after_a_tuple(conv, emit, x):  # type: ignore[no-untyped-def]
    joined = emit("joined", op.concat((conv(x), conv(x)), 1))
    left = emit("left", op.split(joined, 2, 1))
    return conv(emit("first", left[0]))


def the_other_field(conv, emit, x):  # type: ignore[no-untyped-def]
    """A field of a tuple does not wait for the others."""
    pair = emit("pair", relax.Tuple([conv(conv(conv(x))), conv(x)]))
    return conv(emit("second", relax.TupleGetItem(pair, 1)))


def weight_of_a_layer(conv, emit, x):  # type: ignore[no-untyped-def]
    """What comes in as a weight is part of the chain too."""
    computed = emit("weight", op.reshape(op.nn.avg_pool2d(conv(x), (2, 2)), (1, 4, 1, 1)))
    return emit("conv", op.nn.conv2d(x, computed))


GRAPHS = [
    (chain, 3),
    (residual, 2),
    (residual_shared_node_first, 2),
    (shortcut_first, 3),
    (shortcut_second, 3),
    (parallel_in_a_tuple, 1),
    (after_a_tuple, 2),
    (the_other_field, 3),
    (weight_of_a_layer, 2),
]


@pytest.mark.parametrize(
    ("build", "layers"), GRAPHS, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_the_longest_chain_counts(build, layers: int) -> None:  # type: ignore[no-untyped-def]
    module = graph(build)
    assert count_layers(module, CONV) == layers
    assert count_layers(module["main"], CONV) == layers


@pytest.mark.parametrize("depth", [18, 50])
def test_a_resnet_is_as_deep_as_its_name(depth: int) -> None:
    module = small_resnet(depth).module
    assert count_layers(module, ["nn.conv2d", "matmul"]) == depth
    assert count_layers(module, ["relax.nn.conv2d"]) == depth - 1
    assert count_layers(module, ["relax.matmul"]) == 1


def test_a_network_without_such_layers_has_none() -> None:
    assert count_layers(graph(chain), ["relax.nn.conv3d"]) == 0
    assert count_layers(graph(chain), []) == 0


def test_functions_are_followed() -> None:
    data = relax.Var("data", relax.TensorType((1, 4, 2, 2), "float32"))
    weight = relax.Var("weight", relax.TensorType((4, 4, 1, 1), "float32"))
    inner = relax.Var("x", relax.TensorType((1, 4, 2, 2), "float32"))
    inner_weight = relax.Var("w", relax.TensorType((4, 4, 1, 1), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("block", [inner, inner_weight], private=True):
        with builder.dataflow():
            y = builder.emit(op.nn.conv2d(inner, inner_weight))
            output = builder.emit_output(op.nn.relu(builder.emit(op.nn.conv2d(y, inner_weight))))
        builder.emit_func_output(output)
    block = next(variable for variable in builder.get().functions if variable.name_hint == "block")
    with builder.function("main", [data, weight]):
        x = builder.emit(relax.Call(block, [data, weight]))
        x = builder.emit(op.nn.conv2d(x, weight))
        builder.emit_func_output(builder.emit(relax.Call(block, [x, weight])))
    assert count_layers(builder.get(), CONV) == 5


def test_a_function_that_calls_itself_is_refused() -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1,), "float32"))
    main = relax.GlobalVar("main")
    main_type = relax.FuncType([x.ty], x.ty)
    tvm.relax.expr._update_type(main, main_type)
    y = relax.Var("y", x.ty)
    body = relax.SeqExpr([relax.BindingBlock([relax.VarBinding(y, relax.Call(main, [x]))])], y)
    module = tvm.IRModule({main: relax.Function([x], body, x.ty)})
    del builder
    with pytest.raises(ValueError, match="calls itself"):
        count_layers(module, CONV)


ERRORS = [
    (["relax.nn.conv2"], r"'relax\.nn\.conv2' \(perhaps relax\.nn\.conv2d\)"),
    (["nn.conv2d", "nn.dense"], r"registered as 'nn\.dense' \(relax\.matmul in Relax\)"),
    (["nonsense", "matmul", "rubbish"], "'nonsense'.*'rubbish'"),
]


@pytest.mark.parametrize(("operators", "message"), ERRORS, ids=["misspelt", "relay", "several"])
def test_unknown_operators_are_named(operators: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        count_layers(graph(chain), operators)


def test_one_string_is_not_a_list_of_operators() -> None:
    with pytest.raises(TypeError, match="'matmul'"):
        count_layers(graph(chain), "matmul")


def test_a_module_needs_a_main() -> None:
    module = graph(chain)
    other = tvm.IRModule({"other": module["main"]})
    with pytest.raises(ValueError, match="no Relax function 'main'"):
        count_layers(other, CONV)
