"""A ResNet through the workflow of TVM's PR #6748: HWNC layouts, int4 layers, tensor cores.

    python examples/resnet_int4_hwnc.py --network resnet18 --batch 8 --image 64 --width 0.25 --check

The layouts of all convolutions but the first are converted to HWNC, the same layers and the classifier are
recast to int4 with int32 accumulators, and the passes for tensor cores take what they can. What they do not
take is printed with its reason. `--check` evaluates the recast graph and the transformed one in NumPy, the
latter through the model of the tensor-core instruction, and compares every tensor; `--device` runs the
transformed graph (host: built for this CPU; sim: the kernels as PTX on the PTX machine; cuda: a GPU).

A recast scales nothing: real weights would all become zero. The network is therefore one of whole numbers, in
which float arithmetic is exact: its sums stay below 2^24, and its average is over a power of two.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax.expr_functor import PyExprMutator, mutator

import bench
from bench import workloads
from bench.compare.mismatch import find_pass_mismatch
from bench.evaluate import evaluate_all
from bench.flows.flow import Unsupported, flow_for
from bench.flows.transformed import Transformed
from bench.passes import LayoutConfig, convert_layout, count_layers, recast
from bench.passes.layout_report import LayoutReport

LARGEST = {"int4": 7, "int8": 127}


@dataclass(frozen=True)
class RecastNetwork:
    """A network after the graph's part of the workflow, with inputs for it."""

    module: tvm.IRModule
    images: np.ndarray
    layers: int
    layouts: tuple[LayoutReport, ...]


def recast_network(
    name: str,
    *,
    dtype: str = "int4",
    batch: int = 8,
    image: int = 64,
    width: float = 1.0,
) -> RecastNetwork:
    """Build a network of whole numbers, convert its layouts and recast its layers, the first one skipped."""
    workload = workloads.load(name, batch=batch, image=image, width=width)
    module = whole_numbers(workload.module)
    with LayoutConfig(skip_layers=[0]) as config:
        module = convert_layout(module, {"relax.nn.conv2d": ["HWNC", "default"]})
    layers = ["relax.nn.conv2d", "relax.matmul"]
    depth = count_layers(module, layers)
    module = recast(module, dtype, "int32", ops=layers, skip_layers=[0])
    steps = np.rint(workload.images / np.abs(workload.images).max() * LARGEST["int4"])
    return RecastNetwork(module, steps.astype(np.float32), depth, config.report)


def whole_numbers(module: tvm.IRModule) -> tvm.IRModule:
    """Scale every constant tensor to whole numbers in -7..7."""
    return tvm.IRModule({"main": _WholeNumbers().visit_expr(module["main"])})


@mutator
class _WholeNumbers(PyExprMutator):
    def visit_call_(self, call: relax.Call) -> relax.Expr:
        """Replace the constant operands of a call."""
        call = super().visit_call_(call)
        arguments = [_whole(argument) for argument in call.args]
        return relax.Call(call.op, arguments, call.attrs, call.ty_args)


def _whole(argument: relax.Expr) -> relax.Expr:
    if not isinstance(argument, GenericConst):
        return argument
    values = argument.value.numpy()
    largest = np.abs(values).max() or 1
    return relax.const(np.rint(values / largest * LARGEST["int4"]).astype(np.float32))


def check(network: RecastNetwork, transformed: Transformed) -> str | None:
    """What differs first between the recast graph and the transformed one through the instruction models."""
    recast_values = evaluate_all(network.module, network.images)
    overrides = flow_for("tensorcore").overrides
    values = evaluate_all(transformed.mod, network.images, overrides=overrides)
    mismatch = find_pass_mismatch(transformed, values, recast_values)
    if mismatch:
        return str(mismatch)
    scores = list(recast_values.values())[-1]
    return None if len(np.unique(scores)) > 1 else "all scores are equal: nothing was tested"


def main() -> int:
    """Run the workflow; the exit code is 0 where everything that was asked for is exact."""
    options = _options()
    sizes = {"batch": options.batch, "image": options.image, "width": options.width}
    network = recast_network(options.network, dtype=options.dtype, **sizes)
    print(f"{options.network}: {network.layers} layers deep")
    for layer in network.layouts:
        if layer.why_kept:
            print(f"layout: {layer}")
    try:
        transformed = bench.transform(network.module, "tensorcore")
    except Unsupported as reason:
        print(reason)
        return 1
    for layer in transformed.report:
        print(f"{layer.name:24}{layer.shapes:44}{layer.instruction or 'host: ' + str(layer.why_not)}")
    taken = sum(layer.instruction is not None for layer in transformed.report)
    print(f"{taken} of {len(transformed.report)} layers on tensor cores")
    difference = check(network, transformed) if options.check else None
    if options.check:
        print(f"NumPy, through the instruction model: {difference or 'exact'}")
    if options.device:
        verdict = bench.run(network.module, network.images, "tensorcore", options.device)
        print(f"device {options.device}: {verdict.verdict} {verdict.reason or ''}")
        difference = difference or (None if verdict.verdict == "exact" else verdict.verdict)
    return 1 if difference else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--network", choices=["resnet18", "resnet50"], default="resnet18")
    parser.add_argument("--dtype", choices=list(LARGEST), default="int4")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--image", type=int, default=64)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--check", action="store_true", help="compare every tensor in NumPy")
    parser.add_argument("--device", choices=["host", "sim", "cuda"])
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
