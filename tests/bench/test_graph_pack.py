"""Graph packing keeps every value, whatever stands between the layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax

from bench.evaluate import evaluate, evaluate_all
from bench.passes import graph_pack
from bench.passes.graph_pack import GraphPack
from bench.passes.lift_kernels import bindings_of
from bench.passes.packing import GraphPacker
from bench.passes.vta.carried import Carried
from bench.passes.vta.constants import Constants
from tests.bench.integer_graphs import full_range, module_of

Shape = tuple[int, ...]
BLOCKS = [(1, 16), (4, 8), (2, 32)]


class Graph:
    """Builds a graph of layers with full-range weights; each method emits one and returns its result."""

    def __init__(self, emit, *, seed: int = 0) -> None:  # type: ignore[no-untyped-def]
        self.emit = emit
        self.rng = np.random.default_rng(seed)

    def conv(self, data, outputs: int, kernel: int = 3, name: str = "conv", **options):  # type: ignore[no-untyped-def]
        groups = options.get("groups", 1)
        shape = (outputs, int(data.ty.shape[1]) // groups, kernel, kernel)
        options.setdefault("padding", (kernel // 2,) * 2)
        weight = relax.const(full_range(self.rng, shape, "int8"))
        return self.emit(name, relax.op.nn.conv2d(data, weight, out_dtype="int32", **options))

    def transposed(self, data, outputs: int, kernel: int = 3, name: str = "transposed", **options):  # type: ignore[no-untyped-def]
        groups = options.get("groups", 1)
        shape = (int(data.ty.shape[1]), outputs // groups, kernel, kernel)
        weight = relax.const(full_range(self.rng, shape, "int8"))
        return self.emit(name, relax.op.nn.conv2d_transpose(data, weight, out_dtype="int32", **options))

    def dense(self, data, units: int, name: str = "dense"):  # type: ignore[no-untyped-def]
        weight = full_range(self.rng, (int(data.ty.shape[1]), units), "int8")
        return self.emit(name, relax.op.matmul(data, relax.const(weight), out_dtype="int32"))

    def constant(self, shape: Shape, dtype: str = "int32") -> relax.Expr:
        return relax.const(full_range(self.rng, shape, dtype))

    def int8(self, accumulator, name: str = "narrow"):  # type: ignore[no-untyped-def]
        shifted = self.emit(f"{name}_shifted", relax.op.right_shift(accumulator, relax.const(np.int32(9))))
        clipped = self.emit(f"{name}_clipped", relax.op.clip(shifted, -127, 127))
        return self.emit(name, relax.op.astype(clipped, "int8"))


Build = Callable[..., relax.Expr]


def graph(build: Build, shape: Shape = (3, 5, 6, 7), dtype: str = "int8") -> tvm.IRModule:
    """A module whose ``main`` is ``build(Graph, data)``."""
    return module_of({"data": (shape, dtype)}, lambda emit, data: build(Graph(emit), data))


def operators(mod: tvm.IRModule) -> list[str]:
    """The operators of ``main`` in order."""
    calls = [binding.value for binding in bindings_of(mod["main"])]
    return [call.op.name.removeprefix("relax.") for call in calls if isinstance(call, relax.Call)]


def check(
    mod: tvm.IRModule, *, batch: int = 1, block: int = 16, seed: int = 1, may_be_zero: bool = False, **options
) -> tvm.IRModule:  # type: ignore[no-untyped-def]
    """Pack, and hold the result to the plain graph: type, shape and every element."""
    packed = graph_pack(mod, batch, block, 8, **options)
    relax.analysis.well_formed(packed)
    rng = np.random.default_rng(seed)
    inputs = [
        full_range(rng, tuple(int(extent) for extent in parameter.ty.shape), str(parameter.ty.dtype))
        for parameter in mod["main"].params
    ]
    expected, got = (evaluate_all(module, inputs) for module in (mod, packed))
    last, packed_last = (module["main"].body.body for module in (mod, packed))
    for one, other in zip(_fields(last), _fields(packed_last), strict=True):
        want, have = expected[one.name], got[other.name]
        assert (want.dtype, want.shape) == (have.dtype, have.shape)
        np.testing.assert_array_equal(want, have)
        assert np.any(want) or may_be_zero
    return packed


def _fields(result: relax.Expr) -> Sequence[relax.Var]:
    return list(result.fields) if isinstance(result, relax.Tuple) else [result]


def upsampled(g: Graph, data, name: str = "up"):  # type: ignore[no-untyped-def]
    size = tuple(2 * int(extent) for extent in list(data.ty.shape)[2:])
    return g.emit(
        name,
        relax.op.image.resize2d(
            data,
            size,
            layout="NCHW",
            method="nearest_neighbor",
            coordinate_transformation_mode="asymmetric",
            rounding_method="floor",
        ),
    )


def residual(g: Graph, data):  # type: ignore[no-untyped-def]
    one = g.int8(g.conv(data, 17), "one")
    two = g.int8(g.conv(one, 17), "two")
    total = relax.op.add(
        relax.op.left_shift(relax.op.astype(one, "int32"), relax.const(np.int32(2))),
        relax.op.astype(two, "int32"),
    )
    return g.int8(g.emit("total", total))


def branches(g: Graph, data):  # type: ignore[no-untyped-def]
    stem = g.int8(g.conv(data, 20), "stem")
    left, right = g.conv(stem, 9, name="left"), g.conv(stem, 9, kernel=1, name="right")
    return g.emit("sum", relax.op.maximum(left, right))


def residual_with_a_plain_side(g: Graph, data):  # type: ignore[no-untyped-def]
    conv = g.conv(data, int(data.ty.shape[1]))
    return g.emit("sum", relax.op.add(g.emit("wide", relax.op.astype(data, "int32")), conv))


def concatenated(g: Graph, data):  # type: ignore[no-untyped-def]
    one = g.int8(g.conv(data, 17), "one")
    two = g.int8(g.conv(data, 5, kernel=1), "two")
    both = g.emit("both", relax.op.concat([one, two, one], axis=1))
    return g.conv(both, 11, name="last")


def concatenated_then_elementwise(g: Graph, data):  # type: ignore[no-untyped-def]
    both = g.emit("both", relax.op.concat([g.conv(data, 17), g.conv(data, 3, name="other")], axis=1))
    scaled = g.emit("scaled", relax.op.multiply(both, g.constant((20, 1, 1))))
    return g.emit("sum", relax.op.add(scaled, scaled))


def unet(g: Graph, data):  # type: ignore[no-untyped-def]
    top = g.int8(g.conv(data, 12, name="down"), "top")
    low = g.emit("pooled", relax.op.nn.max_pool2d(top, (2, 2), (2, 2)))
    low = g.int8(g.conv(low, 20, name="bottom"), "low")
    joined = g.emit("joined", relax.op.concat([upsampled(g, low), top], axis=1))
    return g.conv(joined, 3, kernel=1, name="head")


def mean_and_dense(g: Graph, data):  # type: ignore[no-untyped-def]
    wide = g.emit("wide", relax.op.astype(g.int8(g.conv(data, 33)), "int32"))
    total = g.emit("total", relax.op.sum(wide, axis=[2, 3]))
    return g.dense(g.int8(total, "mean"), 10)


def flattened(g: Graph, data):  # type: ignore[no-untyped-def]
    flat = g.emit("flat", relax.op.reshape(g.int8(g.conv(data, 5)), (int(data.ty.shape[0]), -1)))
    return g.dense(flat, 10)


def one_pixel_flattened(g: Graph, data):  # type: ignore[no-untyped-def]
    wide = g.emit("wide", relax.op.astype(g.int8(g.conv(data, 33)), "int32"))
    total = g.emit("total", relax.op.sum(wide, axis=[2, 3], keepdims=True))
    return g.dense(g.emit("flat", relax.op.reshape(g.int8(total), (int(data.ty.shape[0]), 33))), 10)


def padded_with_minus_five(g: Graph, data):  # type: ignore[no-untyped-def]
    wide = relax.op.nn.pad(g.int8(g.conv(data, 20)), [0, 0, 0, 0, 1, 0, 0, 2], pad_value=-5)
    return g.conv(g.emit("wide", wide), 4, padding=(0, 0))


def channels_padded(g: Graph, data):  # type: ignore[no-untyped-def]
    wide = relax.op.nn.pad(g.int8(g.conv(data, 20)), [0, 0, 0, 3, 0, 0, 0, 0], pad_value=7)
    return g.conv(g.emit("wide", wide), 4)


def sliced(g: Graph, data):  # type: ignore[no-untyped-def]
    part = relax.op.strided_slice(g.int8(g.conv(data, 20)), [1], [3], [9])
    return g.conv(g.emit("part", part), 4)


def nhwc(g: Graph, data):  # type: ignore[no-untyped-def]
    def conv(tensor, outputs: int, name: str):  # type: ignore[no-untyped-def]
        weight = g.constant((3, 3, int(tensor.ty.shape[3]), outputs), "int8")
        options = {"padding": (1, 1), "data_layout": "NHWC", "kernel_layout": "HWIO", "out_dtype": "int32"}
        return g.emit(name, relax.op.nn.conv2d(tensor, weight, **options))

    biased = g.emit("biased", relax.op.add(conv(data, 20, "first"), g.constant((20,))))
    both = g.emit("both", relax.op.concat([g.int8(biased), data], axis=3))
    return conv(both, 7, "second")


def weight_of_the_graph(g: Graph, data):  # type: ignore[no-untyped-def]
    """The weight is transposed and the bias cast in the graph."""
    weight = g.emit("weight", relax.op.permute_dims(g.constant((5, 9, 3, 3), "int8"), [1, 0, 2, 3]))
    bias = g.emit("wide", relax.op.astype(g.constant((9, 1, 1), "int8"), "int32"))
    conv = g.emit("conv", relax.op.nn.conv2d(data, weight, padding=(1, 1), out_dtype="int32"))
    return g.int8(g.emit("biased", relax.op.add(conv, bias)))


def scaled_by(shape: Shape) -> Build:
    def build(g: Graph, data):  # type: ignore[no-untyped-def]
        product = g.emit("product", relax.op.multiply(g.conv(data, 36), g.constant(shape)))
        return g.emit("difference", relax.op.subtract(g.constant(shape), product))

    return build


def pooled(name: str) -> Build:
    def build(g: Graph, data):  # type: ignore[no-untyped-def]
        wide = relax.op.astype(g.int8(g.conv(data, 20)), "float32")
        pool = getattr(relax.op.nn, name)
        return g.emit("pooled", pool(g.emit("wide", wide), (3, 2), (2, 1), (1, 0, 1, 1)))

    return build


def conv_of(**options) -> Build:  # type: ignore[no-untyped-def]
    return lambda g, data: g.conv(data, options.pop("outputs", 36), **options)


GRAPHS: dict[str, tuple[Build, Shape]] = {
    "conv": (lambda g, data: g.conv(data, 36), (1, 3, 4, 4)),
    "conv 255 channels": (lambda g, data: g.conv(data, 255, kernel=1), (1, 20, 3, 3)),
    "conv asymmetric": (lambda g, data: g.conv(data, 9, padding=(0, 2, 1, 0), strides=(2, 1)), (3, 5, 6, 7)),
    "conv width padded alone": (lambda g, data: g.conv(data, 9, padding=(0, 1, 0, 1)), (3, 5, 6, 7)),
    "conv then bias": (
        lambda g, data: g.emit("bias", relax.op.add(g.conv(data, 36), g.constant((36, 1, 1)))),
        (3, 5, 6, 7),
    ),
    "bias of rank 4": (scaled_by((1, 36, 1, 1)), (3, 5, 6, 7)),
    "multiply of rank 3": (scaled_by((36, 1, 1)), (3, 5, 6, 7)),
    "multiply by a number": (scaled_by(()), (3, 5, 6, 7)),
    "multiply by an image": (scaled_by((6, 7)), (3, 5, 6, 7)),
    "multiply by a tensor": (scaled_by((3, 36, 6, 7)), (3, 5, 6, 7)),
    "groups of whole blocks": (lambda g, data: g.conv(data, 64, groups=2), (2, 64, 5, 5)),
    "groups of 3 channels": (lambda g, data: g.conv(data, 28, groups=7), (2, 21, 5, 5)),
    "depthwise": (lambda g, data: g.conv(data, 40, groups=40), (2, 40, 5, 5)),
    "depthwise times 2": (lambda g, data: g.conv(data, 64, groups=32), (2, 32, 5, 5)),
    "transposed": (lambda g, data: g.transposed(data, 20), (2, 5, 4, 6)),
    "transposed, stride 2": (
        lambda g, data: g.transposed(data, 20, 4, strides=(2, 2), padding=(1, 1)),
        (2, 5, 4, 6),
    ),
    "transposed, output padding": (
        lambda g, data: g.transposed(data, 20, strides=(2, 3), padding=(1, 0, 0, 1), output_padding=(1, 2)),
        (2, 5, 4, 6),
    ),
    "transposed, kernel below its stride": (
        lambda g, data: g.transposed(data, 7, 2, strides=(3, 4)),
        (2, 5, 4, 6),
    ),
    "transposed, cut at its edges": (lambda g, data: g.transposed(data, 7, 1, padding=(1, 1)), (2, 5, 4, 6)),
    "transposed in groups": (lambda g, data: g.transposed(data, 6, groups=3, strides=(2, 2)), (2, 9, 4, 6)),
    "transposed behind a gap": (
        lambda g, data: g.transposed(g.int8(concatenated(g, data)), 6, strides=(2, 2)),
        (1, 5, 4, 6),
    ),
    "dense": (lambda g, data: g.dense(data, 33), (5, 17)),
    "dense with bias": (
        lambda g, data: g.emit("bias", relax.op.add(g.dense(data, 33), g.constant((33,)))),
        (5, 17),
    ),
    "residual": (residual, (3, 5, 6, 7)),
    "residual with a plain side": (residual_with_a_plain_side, (3, 5, 6, 7)),
    "branches": (branches, (3, 5, 6, 7)),
    "concatenate padded channels": (concatenated, (3, 5, 6, 7)),
    "concatenate, then elementwise": (concatenated_then_elementwise, (3, 5, 6, 7)),
    "NHWC": (nhwc, (2, 6, 7, 5)),
    "weight and bias computed from constants": (weight_of_the_graph, (2, 5, 6, 7)),
    "U-Net": (unet, (2, 3, 8, 8)),
    "repeat": (
        lambda g, data: g.conv(
            g.emit("twice", relax.op.repeat(g.int8(g.conv(data, 20)), 2, axis=3)), 5, name="end"
        ),
        (2, 5, 4, 6),
    ),
    "max pool": (pooled("max_pool2d"), (3, 5, 6, 7)),
    "average pool": (pooled("avg_pool2d"), (3, 5, 6, 7)),
    "sum and dense": (mean_and_dense, (3, 5, 6, 7)),
    "flatten": (flattened, (3, 5, 6, 7)),
    "flatten one pixel": (one_pixel_flattened, (3, 5, 6, 7)),
    "pad with -5": (padded_with_minus_five, (3, 5, 6, 7)),
    "pad channels": (channels_padded, (3, 5, 6, 7)),
    "slice channels": (sliced, (3, 5, 6, 7)),
}


@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
@pytest.mark.parametrize("name", GRAPHS)
def test_a_packed_graph_keeps_its_values(name: str, blocks: tuple[int, int]) -> None:
    build, shape = GRAPHS[name]
    check(graph(build, shape), batch=blocks[0], block=blocks[1])


@pytest.mark.parametrize("name", GRAPHS)
def test_constants_packed_by_operators_keep_the_values(name: str) -> None:
    build, shape = GRAPHS[name]
    check(graph(build, shape), batch=2, block=8, fold=False)


@pytest.mark.parametrize("grouping", ["blocks", "none"])
@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_for_kernels_of_fewer_kinds_keeps_its_values(name: str, grouping: str) -> None:
    """As the machine's programs are: convolutions, perhaps in groups, and the ALU's operators."""
    build, shape = GRAPHS[name]
    mod = graph(build, shape)
    rewrite = GraphPack(mod, batch=2, block=8, for_machine=False, grouping=grouping)
    carry = Carried(Constants(fold=True), for_alu=True)
    packed = GraphPacker(mod, rewrite, keep_packed=carry).run()
    data = full_range(np.random.default_rng(1), shape, "int8")
    np.testing.assert_array_equal(evaluate(packed, data), evaluate(mod, data))
    convolutions = [each.value for each in bindings_of(packed["main"]) if _is_convolution(each.value)]
    for call in convolutions:
        blocks = 1 if grouping == "none" else int(call.ty.shape[1])
        assert int(call.attrs.groups) in (1, blocks)


def _is_convolution(value: relax.Expr) -> bool:
    return isinstance(value, relax.Call) and value.op.name.startswith("relax.nn.conv2d")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_chain_of_operators_keeps_its_values(data: st.DataObject) -> None:
    """Layers, elementwise operators, padding and concatenation in any order, for any block."""

    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    def build(g: Graph, tensor):  # type: ignore[no-untyped-def]
        held = [g.int8(g.conv(tensor, draw(1, 20)), "first")]
        for step in range(draw(1, 5)):
            last, name = held[-1], f"t{step}"
            channels = int(last.ty.shape[1])
            like = [each for each in held if list(each.ty.shape) == list(last.ty.shape)]
            same_size = [each for each in held if list(each.ty.shape)[2:] == list(last.ty.shape)[2:]]
            match draw(0, 4):
                case 0:
                    groups = data.draw(
                        st.sampled_from([n for n in range(1, channels + 1) if channels % n == 0])
                    )
                    outputs = groups * draw(1, 4)
                    wide = g.conv(last, outputs, kernel=draw(1, 3), groups=groups, name=f"{name}_conv")
                    total = g.emit(f"{name}_bias", relax.op.add(wide, g.constant((outputs, 1, 1))))
                    held.append(g.int8(total, name))
                case 1:
                    pieces = data.draw(st.lists(st.sampled_from(same_size), min_size=1, max_size=3))
                    held.append(g.emit(name, relax.op.concat([last, *pieces], axis=1)))
                case 2:
                    held.append(g.emit(name, relax.op.multiply(last, g.constant((channels, 1, 1), "int8"))))
                case 3:
                    widths = [0, 0, 0, 0, draw(0, 1), draw(0, 1), draw(0, 1), draw(0, 1)]
                    held.append(g.emit(name, relax.op.nn.pad(last, widths, pad_value=draw(-128, 127))))
                case _:
                    held.append(g.emit(name, relax.op.maximum(data.draw(st.sampled_from(like)), last)))
        return g.conv(held[-1], draw(1, 20), name="last")

    shape = (draw(1, 3), draw(1, 20), 5, 5)
    check(graph(build, shape), batch=draw(1, 3), block=draw(1, 8) * 2, seed=draw(0, 99), may_be_zero=True)


class TestTrapsOfTheOldPass:
    """What ``vta.top.graphpack`` got wrong, failed on or refused."""

    def test_input_channels_are_padded(self) -> None:
        packed = check(graph(lambda g, data: g.conv(data, 16), (1, 3, 4, 4)))
        assert operators(packed)[:4] == ["nn.pad", "reshape", "permute_dims", "nn.conv2d"]

    def test_batch_is_padded(self) -> None:
        packed = check(graph(lambda g, data: g.conv(data, 16), (3, 16, 4, 4)), batch=4)
        assert _shapes(packed)["conv"] == (1, 1, 4, 4, 4, 16)

    def test_a_region_with_padded_channels_is_cropped_at_its_end(self) -> None:
        packed = check(graph(lambda g, data: g.conv(data, 36), (1, 16, 4, 4)))
        assert operators(packed)[-3:] == ["permute_dims", "reshape", "strided_slice"]

    def test_whole_blocks_are_neither_padded_nor_cropped(self) -> None:
        packed = check(graph(lambda g, data: g.conv(data, 32), (1, 16, 4, 4)))
        assert not {"nn.pad", "strided_slice"} & set(operators(packed))

    def test_a_factor_of_each_channel_is_padded(self) -> None:
        packed = check(graph(scaled_by((36, 1, 1))))
        product = next(each for each in bindings_of(packed["main"]) if each.var.name == "product")
        assert tuple(product.value.args[1].value.shape) == (3, 1, 1, 1, 16)

    def test_a_constant_may_be_the_first_operand(self) -> None:
        check(graph(lambda g, data: g.emit("sum", relax.op.add(g.constant((9, 1, 1)), g.conv(data, 9)))))

    def test_a_bias_has_one_value_for_each_image_of_a_block(self) -> None:
        packed = check(
            graph(lambda g, data: g.emit("sum", relax.op.add(g.conv(data, 9), g.constant((1, 9, 1, 1))))),
            batch=4,
        )
        total = next(each for each in bindings_of(packed["main"]) if each.var.name == "sum")
        bias = total.value.args[1].value.numpy()
        assert bias.shape == (1, 1, 1, 4, 16)
        np.testing.assert_array_equal(bias, np.broadcast_to(bias[..., :1, :], bias.shape))

    def test_two_layers_in_a_row_are_packed_once(self) -> None:
        def two(g: Graph, data):  # type: ignore[no-untyped-def]
            return g.conv(g.int8(g.conv(data, 20)), 7, name="second")

        found = operators(check(graph(two)))
        assert (found.count("reshape"), found.count("permute_dims")) == (2, 2)

    def test_what_two_branches_read_is_packed_once_and_unpacked_once(self) -> None:
        def two(g: Graph, data):  # type: ignore[no-untyped-def]
            left, right = g.conv(data, 20, name="left"), g.conv(data, 20, kernel=1, name="right")
            total = g.emit("sum", relax.op.add(left, right))
            # Two readers that need the plain tensor.
            one = g.emit("one", relax.op.strided_slice(total, [1], [0], [3]))
            other = g.emit("other", relax.op.strided_slice(total, [1], [3], [6]))
            return g.emit("end", relax.op.add(one, other))

        found = operators(check(graph(two)))
        assert (found.count("reshape"), found.count("permute_dims")) == (2, 2)

    def test_a_second_region_is_packed_and_unpacked_by_itself(self) -> None:
        def two(g: Graph, data):  # type: ignore[no-untyped-def]
            first = g.int8(g.conv(data, 20))
            turned = g.emit("turned", relax.op.permute_dims(first, [0, 1, 3, 2]))
            return g.conv(turned, 7, name="second")

        found = operators(check(graph(two)))
        assert found.count("strided_slice") == 2

    def test_concatenated_padded_tensors_keep_their_channels_apart(self) -> None:
        packed = check(graph(concatenated))
        assert _shapes(packed)["both"] == (3, 5, 6, 7, 1, 16)
        # The layer behind it reads the gaps with zero weights: nothing is unpacked in between.
        found = operators(packed)
        assert "strided_slice" not in found[: found.index("concat")]

    def test_axes_of_a_reduction_are_those_of_the_packed_tensor(self) -> None:
        packed = check(graph(mean_and_dense))
        assert _shapes(packed)["total"] == (3, 3, 1, 16)

    def test_results_that_are_a_tuple(self) -> None:
        def build(emit, data):  # type: ignore[no-untyped-def]
            g = Graph(emit)
            return g.conv(data, 20)

        module = module_of({"data": ((1, 5, 4, 4), "int8")}, build)
        main = module["main"]
        both = relax.Tuple([main.body.body, main.params[0]])
        function = relax.Function(
            main.params,
            relax.SeqExpr(main.body.blocks, both),
            relax.TupleType([field.ty for field in both.fields]),
        )
        graph_pack(relax.transform.Normalize()(tvm.IRModule({"main": function})), 1, 16)


def _shapes(mod: tvm.IRModule) -> dict[str, Shape]:
    return {
        binding.var.name: tuple(int(extent) for extent in binding.var.ty.shape)
        for binding in bindings_of(mod["main"])
    }


def two_convolutions(g: Graph, data):  # type: ignore[no-untyped-def]
    first = g.int8(g.conv(data, 20, name="conv1"), "one")
    pool = g.emit("pool", relax.op.nn.max_pool2d(first, (2, 2), (2, 2)))
    second = g.int8(g.conv(pool, 20, name="conv2"), "two")
    return g.int8(g.conv(second, 7, name="conv3"), "three")


MARKS = {
    "behind the pool": ("nn.max_pool2d", None, ["conv2", "conv3"]),
    "behind the pool, full name": ("relax.nn.max_pool2d", None, ["conv2", "conv3"]),
    "behind a binding": ("pool", None, ["conv2", "conv3"]),
    "before the pool": (None, "nn.max_pool2d", ["conv1"]),
    "before a binding": (None, "conv3", ["conv1", "conv2"]),
    "before the third convolution": (None, ("nn.conv2d", 2), ["conv1", "conv2"]),
    "before the last convolution": (None, ("nn.conv2d", -1), ["conv1", "conv2"]),
    "between": ("one", "conv3", ["conv2"]),
    "everything": (None, None, ["conv1", "conv2", "conv3"]),
}


@pytest.mark.parametrize(("start", "stop", "expected"), MARKS.values(), ids=MARKS)
def test_a_region_may_be_marked(start, stop, expected) -> None:  # type: ignore[no-untyped-def]
    packed = check(graph(two_convolutions, (2, 3, 8, 8)), start=start, stop=stop)
    shapes = _shapes(packed)
    assert [name for name in ("conv1", "conv2", "conv3") if len(shapes[name]) == 6] == expected


def test_what_stands_behind_the_stop_works_on_plain_tensors() -> None:
    packed = check(graph(two_convolutions, (2, 3, 8, 8)), stop="two")
    shapes = _shapes(packed)
    assert (len(shapes["two_clipped"]), len(shapes["two"])) == (6, 4)


ERRORS = {
    "no such mark": (
        {"start": "nn.relu6"},
        "start 'nn.relu6' is neither a binding of main nor one of its operators",
    ),
    "no such place": ({"stop": ("nn.conv2d", 3)}, r"there are 3 nn.conv2d, so its place is one of -3\.\.2"),
    "stop before start": ({"start": "conv3", "stop": "conv1"}, "stop 'conv1' stands before start 'conv3'"),
    "nothing between": (
        {"start": "conv3"},
        "nothing in main is for VTA: conv1: it stands outside of start and stop",
    ),
}


@pytest.mark.parametrize(("options", "message"), ERRORS.values(), ids=ERRORS)
def test_a_wrong_mark_is_an_error(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        graph_pack(graph(two_convolutions, (2, 3, 8, 8)), 1, 16, 8, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ((0, 16, 8), "bfactor 0 is not positive"),
        ((1, 0, 8), "cfactor 0 is not positive"),
        ((1, 16, 3), "weight_bits 3 is none of 1, 2, 4 and 8"),
        ((1, 16, 4), "conv1: its weights reach from -128 to 127, beyond 4 bits"),
    ],
)
def test_wrong_factors_are_errors(factors: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        graph_pack(graph(two_convolutions, (2, 3, 8, 8)), *factors)


def test_weights_of_four_bits_are_taken_where_the_machine_has_four() -> None:
    def narrow(g: Graph, data):  # type: ignore[no-untyped-def]
        weight = g.rng.integers(-8, 8, (9, 5, 3, 3), dtype=np.int8)
        return g.emit("conv", relax.op.nn.conv2d(data, relax.const(weight), out_dtype="int32"))

    assert _shapes(graph_pack(graph(narrow), 1, 16, 4))["conv"][-2:] == (1, 16)


def test_a_graph_with_nothing_for_vta_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing in main is for VTA: it has no int8 layer"):
        graph_pack(graph(lambda g, data: g.emit("sum", relax.op.add(data, data))), 1, 16)
    with pytest.raises(ValueError, match="nothing in main is for VTA: conv: its data is uint8"):
        graph_pack(graph(lambda g, data: g.conv(data, 4), dtype="uint8"), 1, 16)


@pytest.mark.parametrize(
    ("case", "blocks", "groups"),
    [
        ((64, 64, 2), (1, 16), 2),
        ((64, 64, 64), (1, 16), 4),
        ((40, 40, 40), (1, 16), 3),
        ((32, 64, 32), (1, 16), 2),
        ((21, 28, 7), (1, 16), 1),
        ((64, 64, 2), (1, 32), 2),
        ((64, 64, 4), (1, 32), 2),
    ],
    ids=str,
)
def test_groups_stay_apart_as_far_as_blocks_allow(
    case: tuple[int, int, int], blocks: tuple[int, int], groups: int
) -> None:
    inputs, outputs, given_groups = case
    module = graph(lambda g, data: g.conv(data, outputs, groups=given_groups), (1, inputs, 4, 4))
    packed = check(module, batch=blocks[0], block=blocks[1])
    convolution = next(each.value for each in bindings_of(packed["main"]) if each.var.name == "conv")
    assert int(convolution.attrs.groups) == groups
