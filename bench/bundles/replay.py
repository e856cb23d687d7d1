"""Replaying a bundle: the same artefact on the same inputs, here."""

from __future__ import annotations

import platform
import time
from pathlib import Path

import numpy as np

from bench.bundles.bundle import Bundle, BundleError, read
from bench.bundles.files import INPUTS
from bench.bundles.running import run_to_verdict
from bench.compare.verdict import Verdict
from bench.devices import names
from bench.devices.failure import DeviceFailure
from bench.devices.kernel_process import KernelProcess
from bench.faults import Fault, fault_named
from bench.flows.flow import flow_for
from bench.lowering import BuildError
from bench.pipeline import DEFAULT_TIMEOUT, Progress
from bench.trace import Trace
from bench.verification.kernel import Kernel
from bench.verification.verify import KERNEL, compile_kernel, judge
from kernels.faults import FaultNotPlanted


def replay(
    bundle: Bundle | Path | str,
    *,
    device: str | None = None,
    rebuild: bool = False,
    timeout: float = DEFAULT_TIMEOUT,
    progress: Progress = lambda _: None,
    trace: Trace | None = None,
) -> Verdict:
    """Run what a bundle holds, and compare it again.

    The artefact is executed as it is, on ``device`` or on that of the bundle, and both NumPy evaluations are
    made again from the graphs; with ``rebuild`` the passes and kernels of this version start from the integer
    graph (of a single kernel: from its function). ``trace`` receives what the run makes.

    Raises BundleError for what is no bundle, or cannot be replayed so; ValueError for an unknown device.
    """
    held = bundle if isinstance(bundle, Bundle) else read(bundle)
    device = names.check(device or held.device)
    names.check_target(device, held.target)
    if held.is_kernel:
        return _replay_kernel(held, device, rebuild=rebuild, timeout=timeout)
    assert held.trace.mod is not None
    if not rebuild:
        _check_artifact(held, device)
    trace = trace if trace is not None else Trace()
    if not rebuild:
        trace.transformed, trace.artifact = held.trace.transformed, held.trace.artifact
    _check_inputs(held)
    try:
        return _run_again(held, device, timeout, progress, trace)
    except FaultNotPlanted as error:
        raise BundleError(f"{held.path}: {error}") from None


def _run_again(held: Bundle, device: str, timeout: float, progress: Progress, trace: Trace) -> Verdict:
    return run_to_verdict(
        held.trace.mod,
        held.trace.inputs,
        held.target,
        device,
        workload=str(held.verdict.get("workload", "")),
        fault=_fault(held),
        profile=held.trace.profile,
        timeout=timeout,
        progress=progress,
        trace=trace,
        **held.trace.options,
    )


def _fault(bundle: Bundle) -> Fault | None:
    try:
        return fault_named(bundle.fault) if bundle.fault else None
    except ValueError as error:
        raise BundleError(f"{bundle.path}: {error}") from None


def _check_inputs(bundle: Bundle) -> None:
    """Raise BundleError where the inputs are not those of the integer graph."""
    assert bundle.trace.mod is not None
    parameters = bundle.trace.mod["main"].params
    wanted = {
        parameter.name: (tuple(int(extent) for extent in parameter.ty.shape), str(parameter.ty.dtype))
        for parameter in parameters
    }
    held = {name: (array.shape, str(array.dtype)) for name, array in bundle.trace.inputs.items()}
    if wanted != held:
        raise BundleError(f"{bundle.path}: {INPUTS} holds {held}, and the graph takes {wanted}")


def _check_artifact(bundle: Bundle, device: str) -> None:
    """Raise BundleError where the artefact cannot run on ``device``, or on this machine."""
    artifact = bundle.trace.artifact
    if artifact is None:
        return
    if bool(artifact.machine) != (device != "host"):
        made_for = bundle.device if artifact.machine else "host"
        raise BundleError(
            f"{bundle.path}: its artefact was built for the device {made_for} and cannot run on {device}: "
            f"--rebuild builds one that can"
        )
    processor, here = bundle.versions.get("processor"), platform.machine()
    if processor != here and names.parse_remote(device) is None:
        raise BundleError(
            f"{bundle.path}: the host's part of its artefact is for {processor}, this is {here}: --rebuild"
        )


def _replay_kernel(bundle: Bundle, device: str, *, rebuild: bool, timeout: float) -> Verdict:
    trace = bundle.trace
    started = time.perf_counter()
    if device == "host":
        raise BundleError(
            f"{bundle.path}: a single kernel runs on its target's machine, not on the device host"
        )
    if trace.expected is None:
        raise BundleError(
            f"{bundle.path}: it has no {KERNEL} result to compare with: its reference did not run"
        )
    flow = flow_for(bundle.target, **trace.options)
    kernel = Kernel(str(bundle.verdict.get("workload", KERNEL)), trace.kernel, trace.tensors)
    verdict = Verdict(kernel.name, bundle.target, device, "exact", artifact=flow.artefact)
    try:
        if rebuild or trace.artifact is None:
            if trace.kernel is None:
                raise BundleError(f"{bundle.path}: it holds no function to build its kernel from")
            machine_files = compile_kernel(flow, trace.kernel[KERNEL])
        else:
            machine_files = trace.artifact.machine
        with KernelProcess(bundle.target, machine_files, seconds=timeout) as process:
            output = np.zeros(kernel.output.shape, kernel.output.dtype)
            inputs = [trace.inputs[spec.name] for spec in kernel.inputs]
            report = process.call(KERNEL, inputs, output)
        judge(verdict, kernel, (output, trace.expected), report, instruction=trace.instruction)
    except BuildError as error:
        verdict.verdict, verdict.reason = "build-error", str(error)
    except DeviceFailure as failure:
        verdict.verdict, verdict.reason = failure.verdict, str(failure)
    except KeyError as error:
        raise BundleError(f"{bundle.path}: the inputs lack {error}") from None
    verdict.seconds = time.perf_counter() - started
    return verdict
