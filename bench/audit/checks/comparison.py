"""Checks of the comparison: differences that are planted in tensors are found where they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import tvm
from tvm import relax

from bench.audit.checks.check import Check
from bench.audit.checks.graphs import IMAGE, full_range, odd_convolution
from bench.devices.execution import Execution
from bench.flows.transformed import Transformed


@dataclass(frozen=True)
class _Case:
    """A transformed graph, and the tensors of it and of the integer graph."""

    transformed: Transformed
    evaluated: dict[str, np.ndarray]
    original: dict[str, np.ndarray]

    def tensors(self) -> Iterator[str]:
        """The bindings of main that are tensors, in the order of the graph."""
        from bench.passes.lift_kernels import bindings_of

        for binding in bindings_of(self.transformed.mod["main"]):
            if isinstance(binding.var.ty, relax.TensorType):
                yield binding.var.name


@cache
def _case() -> _Case:
    from bench.evaluate import evaluate_all
    from bench.flows.flow import flow_for

    flow, inputs, module = flow_for("hexagon"), full_range(IMAGE, "int8"), odd_convolution()
    transformed = flow.transform(module)
    return _Case(
        transformed,
        evaluate_all(transformed.mod, inputs, overrides=flow.overrides),
        evaluate_all(module, inputs),
    )


def _changed(array: np.ndarray, index: tuple[int, ...]) -> np.ndarray:
    changed = array.copy()
    changed[index] ^= 1
    return changed


def _corners(array: np.ndarray) -> list[tuple[int, ...]]:
    """The first element, the last one, and one in between."""
    return [
        tuple(map(int, np.unravel_index(flat, array.shape))) for flat in (0, array.size // 2, array.size - 1)
    ]


def _device() -> str | None:
    """One changed element of any tensor is a mismatch in that tensor, at that address, with both values."""
    from bench.compare.mismatch import find_device_mismatch

    case = _case()
    if found := find_device_mismatch(case.transformed, case.evaluated, case.evaluated):
        return f"equal tensors are a mismatch in {found.binding}"
    for name in case.tensors():
        array = case.evaluated[name]
        for index in _corners(array):
            changed = _changed(array, index)
            found = find_device_mismatch(case.transformed, {**case.evaluated, name: changed}, case.evaluated)
            got = found and (
                found.binding,
                found.packed_index,
                found.device,
                found.reference,
                found.differing,
            )
            meant = (name, index, int(changed[index]), int(array[index]), 1)
            if got != meant:
                return f"a change of {name} at {index} is reported as {got}"
        wider = {**case.evaluated, name: array.astype(np.int64)}
        try:
            find_device_mismatch(case.transformed, wider, case.evaluated)
        except ValueError:
            continue
        return f"{name} as int64 counts as equal"
    return None


def _coordinates() -> str | None:
    """The logical coordinate of a mismatch is where the integer graph's tensor has that element."""
    from bench.compare.mismatch import find_pass_mismatch
    from bench.layout import locate

    case = _case()
    for entry in case.transformed.correspondences:
        if entry.layout is None or entry.original not in case.original:
            continue
        shape = entry.shape
        for coordinate in (tuple(extent - 1 for extent in shape), tuple(extent // 2 for extent in shape)):
            index = locate(entry.layout, coordinate, source=entry.axes)
            array = case.evaluated[entry.transformed]
            changed = {**case.evaluated, entry.transformed: _changed(array, index)}
            found = find_pass_mismatch(case.transformed, changed, case.original)
            meant = dict(zip(entry.axes, coordinate, strict=True))
            if found is None or found.coordinate != meant:
                return (
                    f"a change of {entry.transformed} at {meant} is reported at {found and found.coordinate}"
                )
            if found.padding:
                return f"{entry.transformed} at {meant} counts as padding"
    return None


def _missing_tensor() -> str | None:
    """A tensor that the device did not return is an error, not an agreement."""
    from bench.compare.mismatch import find_device_mismatch

    case = _case()
    for name in case.tensors():
        fewer = {key: value for key, value in case.evaluated.items() if key != name}
        try:
            find_device_mismatch(case.transformed, fewer, case.evaluated)
        except ValueError:
            continue
        return f"a device that does not return {name} counts as equal"
    return None


def _vacuous() -> str | None:
    """Zeros everywhere, and a kernel without its tensor instruction, are no agreement."""
    from bench.pipeline import calls_by_result, why_vacuous

    case = _case()
    calls = calls_by_result(case.transformed)
    counted = {name: {"tensor_instructions": 1} for name in calls.values()}
    if reason := why_vacuous(case.transformed, Execution({}, counted), case.evaluated):
        return f"a run that says something counts as none: {reason}"
    for layer in case.transformed.report:
        if not layer.kernel:
            continue
        zeros = {**case.evaluated, layer.result: np.zeros_like(case.evaluated[layer.result])}
        if why_vacuous(case.transformed, Execution({}, counted), zeros) is None:
            return f"{layer.result} is zero everywhere, and nobody minds"
        none = {**counted, calls[layer.result]: {"tensor_instructions": 0}}
        if why_vacuous(case.transformed, Execution({}, none), case.evaluated) is None:
            return f"{layer.name} executed no {layer.instruction}, and nobody minds"
    return None


def _kernel() -> str | None:
    """A single kernel's result against a reference: one changed element is found, another type refused."""
    from bench.compare.mismatch import find_array_mismatch

    array = full_range((4, 33), "int32")
    if find_array_mismatch("out", array, array.copy()):
        return "equal results are a mismatch"
    for index in _corners(array):
        found = find_array_mismatch("out", _changed(array, index), array)
        if found is None or found.packed_index != index or found.differing != 1:
            return f"a change at {index} is reported at {found and found.packed_index}"
    try:
        find_array_mismatch("out", array, array.astype(np.int64))
    except ValueError:
        return None
    return "int64 counts as equal to int32"


def _smallest() -> str | None:
    """The smallest operands that still fail are the one pair that is multiplied wrongly."""
    from bench.artifact import TensorSpec
    from bench.compare.smallest import shrink

    left, right = (np.abs(full_range((40,), "int16", seed=seed)).astype(np.int64) + 1 for seed in (1, 2))

    def compute(given: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        products = given[0] * given[1]
        wrong = products.copy()
        wrong[17] += products[17] > 0
        return wrong, products

    found = shrink([TensorSpec("a", (40,), "int64"), TensorSpec("b", (40,), "int64")], [left, right], compute)
    meant = {"a": [((17,), 1)], "b": [((17,), 1)]}
    return None if found.values == meant else f"found is {found.values} instead of {meant}"


def _finding_is_hazard() -> str | None:
    """A verdict whose machine found an error is a hazard; only an error, and never beside a mismatch."""
    from bench.artifact import TensorSpec
    from bench.compare.verdict import Verdict
    from bench.verification import verify
    from bench.verification.kernel import Kernel
    from simulators.report import Finding, Report

    kernel = Kernel(
        "kernel", tvm.tirx.PrimFunc([], tvm.tirx.Evaluate(0)), (TensorSpec("out", (2,), "int32"),)
    )
    right = np.array([1, 2], np.int32)
    for severity, output, meant in (
        ("error", right, "hazard"),
        ("warning", right, "exact"),
        ("error", right + 1, "mismatch"),
        ("warning", right + 1, "mismatch"),
    ):
        verdict = Verdict("kernel", "vta", "sim", "exact")
        report = Report({}, [Finding("race", severity, "line 1", "two writes")])
        verify.judge(verdict, kernel, (output.astype(np.int32), right), report, instruction=None)
        if verdict.verdict != meant:
            return f"{severity} beside {output.tolist()} for {right.tolist()} is {verdict.verdict}"
    return None


COMPARISON_CHECKS = [
    Check(
        "difference-found", "one changed element of every tensor of a graph", _device, prepare=odd_convolution
    ),
    Check("difference-located", "the coordinates of changed elements", _coordinates, prepare=odd_convolution),
    Check("tensor-missing", "a device that leaves a tensor out", _missing_tensor, prepare=odd_convolution),
    Check("zeros-prove-nothing", "agreements that say nothing", _vacuous, prepare=odd_convolution),
    Check("kernel-difference-found", "one changed element of a kernel's result", _kernel),
    Check("smallest-operands", "how far failing operands are reduced", _smallest),
    Check("findings-count", "what a machine's findings make of a verdict", _finding_is_hazard),
]
