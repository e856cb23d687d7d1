"""``bench.verify``: one kernel of the user's own against a reference."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tvm
from tvm.tirx import PrimFunc

from bench.artifact import Artifact
from bench.compare.causes import kernel_causes
from bench.compare.mismatch import find_array_mismatch
from bench.compare.smallest import SmallestOperands, shrink
from bench.compare.verdict import LayerVerdict, Verdict
from bench.devices import counters, names
from bench.devices.failure import DeviceFailure
from bench.devices.kernel_process import KernelProcess
from bench.flows.flow import Flow, flow_for
from bench.lowering import BuildError
from bench.trace import Trace
from bench.verification.inputs import draw
from bench.verification.kernel import Kernel, kernel_of
from bench.verification.reference import Reference, reference_of
from bench.verification.shapes import DEFAULT_EXAMPLES, kernel_of_shape, verify_shapes
from simulators.report import Report

KERNEL = "kernel"
INSTRUCTIONS: Mapping[str, tuple[str, ...]] = {
    "tensorcore": ("wmma.mma", "mma"),
    "hexagon": ("vrmpy",),
    "vta": ("GEMM",),
}
DEFAULT_TIMEOUT = 600.0


def verify(
    kernel: Any,
    reference: Any = None,
    target: str = "tensorcore",
    device: str = "sim",
    *,
    block: Any = None,
    shapes: Any = None,
    examples: int = DEFAULT_EXAMPLES,
    instruction: str | None = None,
    inputs: Sequence[np.ndarray] | None = None,
    seed: int = 0,
    name: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    trace: Trace | None = None,
) -> Verdict:
    """Compile a kernel for ``target``, run it on ``device``, and compare it with a reference.

    ``kernel`` is a scheduled PrimFunc, an IRModule with one, an s_tir Schedule, a VTA program, or a function
    that schedules ``block``; its last parameter is the result. ``reference`` is a NumPy function of the
    inputs or a PrimFunc without a schedule; by default ``block``. Inputs are drawn from ``seed`` over the
    whole range of their types, unless given. With ``instruction`` (one of :data:`INSTRUCTIONS`) a kernel
    that did not execute it is a ``build-error``, however right its numbers. ``trace`` receives what the
    verification makes on its way.

    With ``shapes``, a sequence or a Hypothesis strategy of whatever describes a shape, many kernels are
    verified: ``block`` is then a function of a shape, or, where there is none, ``kernel`` is. Of a strategy
    ``examples`` shapes are drawn, from ``seed``; the verdict is that of the smallest shape that fails
    (:func:`bench.verification.shapes.verify_shapes`).

    Raises ValueError for what is no kernel, reference, target, device or instruction; all else is a verdict.
    """

    def verified(kernel: Any, block: Any, *, explain: bool = True) -> Verdict:
        return _verify_one(
            kernel,
            reference,
            target,
            device,
            block=block,
            instruction=instruction,
            inputs=inputs,
            seed=seed,
            name=name,
            timeout=timeout,
            trace=trace,
            explain=explain,
        )

    if shapes is None:
        return verified(kernel, block)
    if inputs is not None:
        raise ValueError("inputs have one shape: leave out either shapes or inputs")
    of_shape = kernel_of_shape(kernel, block)

    def of_one(shape: Any, *, explain: bool) -> Verdict:
        return verified(*of_shape(shape), explain=explain)

    return verify_shapes(of_one, shapes, examples=examples, seed=seed)


def _verify_one(
    kernel: Any,
    reference: Any,
    target: str,
    device: str,
    *,
    block: PrimFunc | None,
    instruction: str | None,
    inputs: Sequence[np.ndarray] | None,
    seed: int,
    name: str | None,
    timeout: float,
    trace: Trace | None,
    explain: bool,
) -> Verdict:
    """Verify one kernel: see :func:`verify`."""
    flow = flow_for(target)
    if names.check(device) == "host":
        raise ValueError("the device host executes no machine code of a kernel; all others do")
    names.check_target(device, target)
    if instruction is not None and instruction not in INSTRUCTIONS[target]:
        valid = ", ".join(INSTRUCTIONS[target])
        raise ValueError(f"unknown instruction {instruction!r} of {target}: one of {valid}")
    started = time.perf_counter()
    taken = kernel_of(kernel, block=block)
    expected_of = reference_of(reference, taken)
    operands = _operands(taken, inputs, seed)
    verdict = Verdict(name or taken.name, target, device, "exact", artifact=flow.artefact)
    trace = trace or Trace()
    trace.inputs = {spec.name: array for spec, array in zip(taken.inputs, operands, strict=True)}
    trace.tensors, trace.instruction = taken.tensors, instruction
    if isinstance(taken.code, PrimFunc):
        trace.kernel = tvm.IRModule({KERNEL: taken.code})
    try:
        files = compile_kernel(flow, taken.code)
        trace.artifact = Artifact(target, taken.inputs, (taken.output,), (KERNEL,), b"", files)
        trace.expected = expected_of(operands)
        with KernelProcess(target, files, device=device, seconds=timeout) as process:
            verdict.hardware = process.hardware
            output = np.zeros(taken.output.shape, taken.output.dtype)
            report = process.call(KERNEL, operands, output)
            judge(verdict, taken, (output, trace.expected), report, instruction=instruction)
            if verdict.mismatch and explain:
                verdict.smallest = _smallest(taken, operands, process, expected_of)
        if verdict.mismatch and explain:
            inputs_by_name = [spec.name for spec in taken.inputs]
            verdict.causes = kernel_causes(expected_of, inputs_by_name, operands, output, trace.expected)
    except BuildError as error:
        verdict.verdict, verdict.reason = "build-error", str(error)
    except DeviceFailure as failure:
        verdict.verdict, verdict.reason = failure.verdict, str(failure)
    verdict.seconds = time.perf_counter() - started
    return verdict


def _operands(kernel: Kernel, given: Sequence[np.ndarray] | None, seed: int) -> list[np.ndarray]:
    if given is None:
        generator = np.random.default_rng(seed)
        return [draw(spec, generator) for spec in kernel.inputs]
    if len(given) != len(kernel.inputs):
        raise ValueError(f"{len(given)} inputs for a kernel that takes {len(kernel.inputs)}")
    for array, spec in zip(given, kernel.inputs, strict=True):
        if (array.shape, array.dtype) != (spec.shape, np.dtype(spec.dtype)):
            raise ValueError(
                f"input {spec.name} is {array.dtype}{list(array.shape)}; the kernel takes "
                f"{spec.dtype}{list(spec.shape)}"
            )
    return [np.ascontiguousarray(array) for array in given]


def _smallest(
    kernel: Kernel, operands: Sequence[np.ndarray], process: KernelProcess, expected_of: Reference
) -> SmallestOperands:
    def compute(inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        output = np.zeros(kernel.output.shape, kernel.output.dtype)
        process.call(KERNEL, inputs, output)
        return output, expected_of(inputs)

    return shrink(kernel.inputs, operands, compute)


def compile_kernel(flow: Flow, code: Any) -> dict[str, bytes]:
    """The machine files of one kernel, named :data:`KERNEL`. Raises BuildError."""
    try:
        return flow.compile({KERNEL: code})
    except Exception as error:  # whatever TVM, NVRTC or a linker raises is a build error, not the bench's
        raise BuildError(f"{type(error).__name__}: {error}") from error


def judge(
    verdict: Verdict,
    kernel: Kernel,
    results: tuple[np.ndarray, np.ndarray],
    report: Report,
    *,
    instruction: str | None,
) -> None:
    """Compare the two results, count, and ask whether agreement says anything."""
    output, expected = results
    verdict.counters, verdict.findings = report.counters, report.findings
    verdict.mismatch = find_array_mismatch(kernel.output.name, output, expected)
    shapes = " ".join(f"{spec.name} {spec.dtype}{list(spec.shape)}" for spec in kernel.tensors)
    layer = LayerVerdict(kernel.name, "kernel", shapes, instruction, count=counters.executed(report.counters))
    layer.verdict = "mismatch" if verdict.mismatch else "exact"
    verdict.layers = [layer]
    if verdict.mismatch:
        verdict.verdict = "mismatch"
    elif any(finding.severity == "error" for finding in verdict.findings):
        verdict.verdict = "hazard"
        verdict.reason = "the numbers agree, but the machine found errors"
    elif not np.any(expected):
        verdict.verdict, verdict.reason = (
            "build-error",
            "the reference is zero everywhere: nothing was tested",
        )
    elif instruction and counters.none_used(report.counters):
        verdict.verdict = "build-error"
        verdict.reason = f"the kernel executed no {instruction}: its schedule fell back to other code"
