"""Checks of single passes, on graphs that are odd in every extent."""

from __future__ import annotations

from functools import partial

import numpy as np
import tvm
from tvm import relax

from bench.audit.checks.check import Check
from bench.audit.checks.graphs import IMAGE, branches, full_range, odd_convolution
from bench.audit.checks.runs import digits

DEPTH_OF_DIGITS, LAYERS_OF_DIGITS = 5, 5
LAYERS = ("relax.nn.conv2d", "relax.matmul")
MOST_LOST = 0.015
"""How much accuracy integers may cost: 1.5 points."""


def _odd_window(target: str) -> str | None:
    """The transformed graph against the integer graph, in NumPy."""
    from bench.compare.mismatch import find_pass_mismatch
    from bench.evaluate import evaluate_all
    from bench.flows.flow import flow_for

    flow, module, inputs = flow_for(target), odd_convolution(), full_range(IMAGE, "int8")
    transformed = flow.transform(module)
    if not any(layer.kernel for layer in transformed.report):
        return f"no layer of {len(transformed.report)} was taken"
    found = find_pass_mismatch(
        transformed,
        evaluate_all(transformed.mod, inputs, overrides=flow.overrides),
        evaluate_all(module, inputs),
    )
    if found is None:
        return None
    return f"{found.binding}: {found.device} instead of {found.reference} at {found.coordinate}"


def _legalized() -> str | None:
    """vrmpy_legalize keeps the values of every layer, with signed and with unsigned weights."""
    from bench.evaluate import evaluate_all
    from bench.passes import vrmpy_legalize

    module, inputs = odd_convolution(), full_range(IMAGE, "int8")
    meant = evaluate_all(module, inputs)
    for weights in ("keep", "unsigned"):
        values = evaluate_all(vrmpy_legalize(module, weights=weights), inputs)
        for name in ("conv1", "conv2"):
            wrong = int(np.count_nonzero(values[name] != meant[name]))
            if wrong:
                return f"{name} with weights {weights!r}: {wrong} of {meant[name].size} elements differ"
    return None


def _depth() -> str | None:
    """count_layers on two networks whose depth is known."""
    from bench.passes import count_layers

    for name, module, expected in (
        ("digits", digits().module, DEPTH_OF_DIGITS),
        ("two branches and a layer", branches(), 2),
    ):
        if (depth := count_layers(module, LAYERS)) != expected:
            return f"{name} has depth {depth} instead of {expected}"
    return None


def _recast() -> str | None:
    """Recast leaves the layers that are to be skipped, and casts the others in and back."""
    from bench.passes import recast
    from bench.passes.lift_kernels import bindings_of

    skipped = recast(branches(), "int16", "int64", ["relax.nn.conv2d"], skip_layers=[0, -1])
    types = {binding.var.name: str(binding.var.ty.dtype) for binding in bindings_of(skipped["main"])}
    convolutions = {name: types[name] for name in ("left", "right", "last")}
    if convolutions != dict.fromkeys(convolutions, "int32"):
        return f"results have the types {convolutions} instead of int32"
    cast = sorted(name for name in types if types[name] == "int16")
    if cast != ["right_data", "right_weight"]:
        return f"cast to int16: {', '.join(cast) or 'nothing'} instead of right_data and right_weight"
    accumulators = sorted(name for name in types if types[name] == "int64")
    return None if accumulators == ["right_int64"] else f"accumulated in int64 is {accumulators}"


def _layout_scopes() -> str | None:
    """LayoutConfig nests: what is inside counts alone, and what is outside counts again behind it."""
    from bench.passes import LayoutConfig

    with LayoutConfig(skip_layers=[0]) as outer:
        with LayoutConfig(skip_layers=[1]) as middle, LayoutConfig() as inner:
            if LayoutConfig.current() is not inner:
                return "the innermost scope is not the current one"
        if LayoutConfig.current() is not outer:
            return f"behind the scope {middle.skip_layers} the outer one is not the current one"
    return "a scope is open behind all of them" if LayoutConfig.current() else None


def _skipped_layout() -> str | None:
    """convert_layout leaves the layers that are to be skipped, counted from either end."""
    from bench.passes import LayoutConfig, convert_layout
    from bench.passes.lift_kernels import bindings_of

    with LayoutConfig(skip_layers=[-1]):
        converted = convert_layout(branches(), {"relax.nn.conv2d": ["HWNC", "default"]})
    layouts = {
        binding.var.name: str(binding.value.attrs.data_layout)
        for binding in bindings_of(converted["main"])
        if hasattr(getattr(binding.value, "attrs", None), "data_layout")
    }
    found = sorted(layouts.values())
    return None if found == ["HWNC", "HWNC", "NCHW"] else f"the layouts are {layouts}"


def _batch_norm() -> str | None:
    """A folded batch normalisation computes what the float graph computes."""
    from bench.evaluate import evaluate
    from bench.passes.fold_batch_norm import fold_batch_norm

    rng = np.random.default_rng(0)
    weight = rng.normal(size=(4, 5, 3, 3)).astype(np.float32)
    gamma, beta, mean = (rng.normal(size=4).astype(np.float32) for _ in range(3))
    variance = rng.uniform(0.1, 2, size=4).astype(np.float32)
    data = relax.Var("data", relax.TensorType(IMAGE, "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [data]):
        with builder.dataflow():
            conv = builder.emit(relax.op.nn.conv2d(data, relax.const(weight), padding=1))
            constants = map(relax.const, (gamma, beta, mean, variance))
            normed = builder.emit(relax.op.nn.batch_norm(conv, *constants, axis=1, training=False))
            output = builder.emit_output(relax.TupleGetItem(normed, 0))
        builder.emit_func_output(output)
    module = builder.finalize()
    image = rng.normal(size=IMAGE).astype(np.float32)
    plain = np.asarray(evaluate(fold_batch_norm(module), image), np.float64)
    sums = np.asarray(evaluate(_convolution_alone(data, weight), image), np.float64)
    shape = (1, -1, 1, 1)
    meant = (sums - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + 1e-5)
    meant = meant * gamma.reshape(shape) + beta.reshape(shape)
    error = float(np.abs(plain - meant).max())
    return f"results differ by up to {error:.3g}" if error > 1e-3 else None


def _convolution_alone(data: relax.Var, weight: np.ndarray) -> tvm.IRModule:
    builder = relax.BlockBuilder()
    parameter = relax.Var("data", data.ty)
    with builder.function("main", [parameter]):
        with builder.dataflow():
            output = builder.emit_output(relax.op.nn.conv2d(parameter, relax.const(weight), padding=1))
        builder.emit_func_output(output)
    return builder.finalize()


def _accuracy() -> str | None:
    """Integers cost the trained network little accuracy, with either scheme."""
    from bench.evaluate import evaluate
    from bench.passes import quantize, quantize_input

    workload = digits(256)
    whole = workload.accuracy(evaluate(workload.module, workload.images))
    for scheme in ("fixed", "pow2"):
        module = quantize(workload.module, workload.calibration, scheme=scheme)
        found = workload.accuracy(evaluate(module, quantize_input(module, workload.images)))
        if found < whole - MOST_LOST:
            return f"scheme {scheme}: accuracy {100 * found:.1f} %, of floats {100 * whole:.1f} %"
    return None


PASS_CHECKS = [
    *(
        Check(
            f"odd-window/{target}",
            "NumPy: a convolution of odd extents, strides, padding and dilation",
            partial(_odd_window, target),
            prepare=odd_convolution,
        )
        for target in ("tensorcore", "hexagon")
    ),
    Check("legalised-values", "vrmpy_legalize on the same convolution", _legalized, prepare=odd_convolution),
    Check("network-depth", "count_layers on networks of known depth", _depth, prepare=digits),
    Check("recast-layers", "which layers recast casts, and to what", _recast, prepare=branches),
    Check("layout-scopes", "which LayoutConfig is current", _layout_scopes),
    Check("layout-skips", "which layers convert_layout converts", _skipped_layout, prepare=branches),
    Check("folded-batch-norm", "a folded normalisation against its formula", _batch_norm),
    Check("accuracy", "of the trained network in integers", _accuracy, prepare=partial(digits, 256)),
]
