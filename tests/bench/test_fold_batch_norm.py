"""A batch normalisation becomes part of the convolution before it, and only of that."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax

from bench.evaluate import evaluate
from bench.passes.fold_batch_norm import fold_batch_norm
from bench.passes.lift_kernels import bindings_of
from tests.bench.integer_graphs import module_of

EPSILON = 1e-3


def statistics(channels: int) -> tuple[np.ndarray, ...]:
    """Gamma, beta, mean and variance."""
    rng = np.random.default_rng(1)
    gamma, beta, mean = (rng.normal(size=channels).astype(np.float32) for _ in range(3))
    return gamma, beta, mean, rng.uniform(0.1, 4, channels).astype(np.float32)


def normalised(emit, data, channels: int, **options):  # type: ignore[no-untyped-def]
    constants = [relax.const(each) for each in statistics(channels)]
    both = emit(
        "both", relax.op.nn.batch_norm(data, *constants, axis=1, epsilon=EPSILON, training=False, **options)
    )
    return emit("normalised", relax.TupleGetItem(both, 0))


def in_numpy(values: np.ndarray, *, center: bool = True, scale: bool = True) -> np.ndarray:
    gamma, beta, mean, variance = (each.reshape(1, -1, 1, 1).astype(np.float64) for each in statistics(6))
    result = (values - mean) / np.sqrt(variance + EPSILON)
    return result * (gamma if scale else 1) + (beta if center else 0)


def operators(mod: tvm.IRModule) -> list[str]:
    calls = [binding.value for binding in bindings_of(mod["main"])]
    return [call.op.name.removeprefix("relax.") for call in calls if isinstance(call, relax.Call)]


def convolution(emit, data, *, kind: str = "conv2d", groups: int = 1):  # type: ignore[no-untyped-def]
    shape = (4, 6 // groups, 3, 3) if kind == "conv2d_transpose" else (6, 4 // groups, 3, 3)
    weight = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    operator = getattr(relax.op.nn, kind)
    return emit("conv", operator(data, relax.const(weight), padding=(1, 1), groups=groups))


BIAS = np.linspace(-2, 3, 6, dtype=np.float32)


def with_bias(emit, data, shape: tuple[int, ...], *, first: bool = False):  # type: ignore[no-untyped-def]
    operands = [data, relax.const(BIAS.reshape(shape))]
    return emit("biased", relax.op.add(*(reversed(operands) if first else operands)))


DATA = np.random.default_rng(3).normal(size=(2, 4, 5, 5)).astype(np.float32)


def build(**options):  # type: ignore[no-untyped-def]
    """A convolution, perhaps a bias, and the normalisation; and the same without the last."""
    bias, form = options.pop("bias", None), options.pop("form", {})

    def before(emit, data):  # type: ignore[no-untyped-def]
        conv = convolution(emit, data, **options)
        return with_bias(emit, conv, bias) if bias else conv

    def whole(emit, data):  # type: ignore[no-untyped-def]
        return normalised(emit, before(emit, data), 6, **form)

    parameters = {"data": (DATA.shape, "float32")}
    return module_of(parameters, whole), module_of(parameters, before)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": (6, 1, 1)},
        {"bias": (1, 6, 1, 1)},
        {"groups": 2},
        {"form": {"scale": False}},
        {"form": {"center": False}},
    ],
    ids=str,
)
def test_the_folded_network_computes_the_same(options: dict[str, object]) -> None:
    form = options.get("form", {})
    whole, before = build(**options)
    folded = fold_batch_norm(whole)
    assert operators(folded) == ["nn.conv2d", "add"]
    expected = in_numpy(evaluate(before, DATA), **form)  # type: ignore[arg-type]
    np.testing.assert_allclose(evaluate(folded, DATA), expected, rtol=1e-4, atol=1e-4)


def weight_of(mod: tvm.IRModule) -> np.ndarray:
    """The weight of the first binding."""
    return bindings_of(mod["main"])[0].value.args[1].value.numpy()


def test_a_transposed_convolution_folds_along_its_second_axis() -> None:
    whole, before = build(kind="conv2d_transpose")
    folded = fold_batch_norm(whole)
    assert operators(folded) == ["nn.conv2d_transpose", "add"]
    gamma, _, _, variance = statistics(6)
    expected = weight_of(before) * (gamma / np.sqrt(variance + EPSILON)).reshape(1, -1, 1, 1)
    np.testing.assert_allclose(weight_of(folded), expected, rtol=1e-5)


def test_names_stay() -> None:
    folded = fold_batch_norm(build(bias=(6, 1, 1))[0])
    assert [binding.var.name for binding in bindings_of(folded["main"])][:2] == ["conv", "normalised"]


def left_alone(emit, data, *, what: str):  # type: ignore[no-untyped-def]
    conv = convolution(
        emit,
        data,
        kind="conv2d_transpose" if what == "grouped, transposed" else "conv2d",
        groups=2 if what == "grouped, transposed" else 1,
    )
    if what == "relu between":
        conv = emit("relu", relax.op.nn.relu(conv))
    if what == "an image added":
        conv = emit("sum", relax.op.add(conv, relax.const(np.ones((1, 6, 5, 5), np.float32))))
    result = normalised(emit, conv, 6)
    return emit("sum2", relax.op.add(result, conv)) if what == "another reader" else result


@pytest.mark.parametrize("what", ["relu between", "an image added", "another reader", "grouped, transposed"])
def test_what_does_not_follow_a_convolution_alone_is_left(what: str) -> None:
    module = module_of(
        {"data": (DATA.shape, "float32")}, lambda emit, data: left_alone(emit, data, what=what)
    )
    assert "nn.batch_norm" in operators(fold_batch_norm(module))
