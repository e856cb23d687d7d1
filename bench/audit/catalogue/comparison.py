"""Faults in the comparison, the verdict and what is said of it: with one of these all would look well."""

from __future__ import annotations

from functools import partial

from bench.audit.planting import text_fault

_fault = partial(text_fault, "comparison")

FAULTS = [
    _fault(
        "one-difference-forgiven",
        "tensors count as equal where no more than one element differs",
        "difference-found",
        function="bench.compare.mismatch:_equal",
        old="np.array_equal(one, other)",
        new="np.count_nonzero(one != other) <= 1",
    ),
    _fault(
        "types-not-compared",
        "tensors of different types count as equal where their values are",
        "difference-found",
        function="bench.compare.mismatch:_equal",
        old="one.dtype == other.dtype and ",
        new="",
    ),
    _fault(
        "first-difference-is-the-last",
        "a mismatch is reported at the last differing element of a tensor that is packed",
        "difference-found",
        function="bench.compare.mismatch:_Difference.locate",
        old="for position in different[0])",
        new="for position in different[0][::-1])",
    ),
    _fault(
        "values-exchanged",
        "a mismatch gives the device's value as the reference's and the other way round",
        "difference-found",
        function="bench.compare.mismatch:_Difference.locate",
        old="device=int(self.got[index])",
        new="device=int(self.expected[index])",
    ),
    _fault(
        "coordinates-without-blocks",
        "the logical coordinate of a mismatch leaves out the block it lies in",
        "difference-located",
        function="bench.compare.mismatch:_Difference.coordinates",
        old="found[axis] * (size or 1) + positions",
        new="found[axis] + positions",
    ),
    _fault(
        "padding-is-everywhere",
        "every mismatch is said to be in padding",
        "difference-located",
        function="bench.compare.mismatch:_Difference.locate",
        old="padding=any(",
        new="padding=not all(",
    ),
    _fault(
        "missing-tensors-forgiven",
        "a tensor that the device did not return is not compared",
        "tensor-missing",
        function="bench.compare.mismatch:find_device_mismatch",
        old="if not isinstance(binding.var.ty, relax.TensorType) or not",
        new="if name not in device or not",
    ),
    _fault(
        "zeros-are-proof",
        "a layer whose result is zero everywhere counts as tested",
        "zeros-prove-nothing",
        function="bench.pipeline:why_vacuous",
        old="if not np.any(reference[layer.result]):",
        new="if False:",
    ),
    _fault(
        "instruction-not-asked-for",
        "a layer counts as tensorised though its instruction was not executed",
        "zeros-prove-nothing",
        function="bench.pipeline:why_vacuous",
        old="if execution.counters and counters",
        new="if not execution.counters and counters",
    ),
    _fault(
        "kernel-difference-at-the-end",
        "the result of a single kernel is not compared in its last row",
        "kernel-difference-found",
        function="bench.compare.mismatch:find_array_mismatch",
        old="np.array_equal(got, expected)",
        new="np.array_equal(got[:-1], expected[:-1])",
    ),
    _fault(
        "operands-not-reduced",
        "the smallest failing operands are never tried as ones",
        "smallest-operands",
        function="bench.compare.smallest:_Shrinker.simplify",
        old="if not np.array_equal(array, self.inputs[number]):",
        new="if False:",
    ),
    _fault(
        "hazards-are-exact",
        "a kernel in which the machine found an error is exact where its numbers agree",
        "findings-count",
        function="bench.verification.verify:judge",
        old='finding.severity == "error"',
        new='finding.severity == "fatal"',
    ),
    _fault(
        "warnings-are-hazards",
        "a kernel of which the machine only warns is a hazard",
        "findings-count",
        function="bench.verification.verify:judge",
        old='any(finding.severity == "error" for',
        new="any(finding.severity for",
    ),
    _fault(
        "always-zero",
        "a run exits with status 0 whatever it found",
        "exit-status",
        function="bench.commands.run:_Results.status",
        old="return 0 if exact and not self._options.inject else 1",
        new="return 0",
    ),
    _fault(
        "fault-of-another-target",
        "a run does not mind a fault that is not of its target",
        "exit-status",
        function="bench.commands.run:_contradiction",
        old="if fault and targets != [fault.target]:",
        new="if False:",
    ),
    _fault(
        "device-not-compared",
        "the device's tensors are compared with themselves",
        "report",
        function="bench.pipeline:compare",
        old="find_device_mismatch(transformed, execution.outputs, reference)",
        new="find_device_mismatch(transformed, reference, reference)",
    ),
    _fault(
        "layers-are-exact",
        "every layer counts as exact",
        "report",
        function="bench.pipeline:compare",
        old='"exact" if equal else "mismatch"',
        new='"exact"',
    ),
]
