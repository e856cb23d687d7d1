"""How MetaSchedule builds and measures a candidate: TVM and NVRTC to PTX, and a machine that runs it.

On the PTX machine what is measured are no seconds but a cost that the machine counts, the same on every run:

    warp instructions + SECTOR * sectors of global memory + bank conflicts

A multiprocessor issues a warp instruction, or serves a transaction of shared memory, in one cycle of a
scheduler. A sector costs as many as an A100 issues in the time in which its L2 cache delivers one: 108
multiprocessors with four schedulers at 1.41 GHz, and some 4.9 TB/s in sectors of 32 bytes.

A GPU has a clock instead (the counter ``device_nanoseconds``): it is asked several times, in a process of its
own, and the cost is the least of its times.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tvm
from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule

from bench.devices.exclusive import exclusive
from bench.devices.failure import DeviceFailure
from bench.devices.kernel_process import KernelProcess
from bench.devices.machines import machine_for
from bench.flows.tensorcore import files_of
from bench.tuning.layer import TunedLayer
from kernels.tensorcore.ptx import PtxKernel, compile_ptx
from kernels.tensorcore.schedule import scheduled_function
from simulators.report import Finding

SECTOR = 4
SECTOR_BYTES = 32
NANOSECONDS = "device_nanoseconds"
TIMES = 10
NAME = "candidate"
FILE = "candidate.json"

Compile = Callable[[tvm.tirx.PrimFunc], PtxKernel]


def cost_of(counters: Mapping[str, int]) -> int:
    """What a run costs, in cycles of a scheduler or in nanoseconds (see the module)."""
    if NANOSECONDS in counters:
        return counters[NANOSECONDS]
    return (
        counters["warp_instructions"]
        + SECTOR * (counters["global_load_sectors"] + counters["global_store_sectors"])
        + counters["shared_bank_conflicts"]
    )


def compile_candidate(scheduled: tvm.tirx.PrimFunc) -> PtxKernel:
    """A scheduled function to PTX."""
    return compile_ptx(scheduled_function(scheduled), name=NAME)


@dataclass(frozen=True)
class Measurement:
    """What came of one candidate: its counters, or why it has none that count.

    ``wrong`` says that it was built and ran, and its result or its accesses to memory were wrong.
    """

    counters: Mapping[str, int] = field(default_factory=dict)
    failure: str | None = None
    wrong: bool = False


@derived_object
class Builder(meta_schedule.builder.PyBuilder):
    """Builds each candidate to a file with its PTX and its launch."""

    def __init__(self, folder: Path, build: Compile) -> None:
        super().__init__()
        self.folder = folder
        self.compile = build
        self.count = 0

    def build(
        self, build_inputs: Sequence[meta_schedule.builder.BuilderInput]
    ) -> list[meta_schedule.builder.BuilderResult]:
        """MetaSchedule's call."""
        return [self._build(each.mod["main"]) for each in build_inputs]

    def _build(self, function: tvm.tirx.PrimFunc) -> meta_schedule.builder.BuilderResult:
        self.count += 1
        path = self.folder / str(self.count) / FILE
        try:
            kernel = self.compile(function)
        except Exception as error:  # whatever TVM or NVRTC raises, the candidate has no kernel
            return meta_schedule.builder.BuilderResult(None, f"{type(error).__name__}: {error}")
        path.parent.mkdir()
        path.write_text(json.dumps(kernel.to_dict()))
        return meta_schedule.builder.BuilderResult(str(path), None)


@derived_object
class _Done(meta_schedule.runner.PyRunnerFuture):
    """A measurement that is there already."""

    def __init__(self, measurement: Measurement) -> None:
        super().__init__()
        self.measurement = measurement

    def done(self) -> bool:
        """MetaSchedule's call."""
        return True

    def result(self) -> meta_schedule.runner.RunnerResult:
        """MetaSchedule's call: the cost takes the place of seconds."""
        if self.measurement.failure:
            return meta_schedule.runner.RunnerResult(None, self.measurement.failure)
        return meta_schedule.runner.RunnerResult([float(cost_of(self.measurement.counters))], None)


@derived_object
class Runner(meta_schedule.runner.PyRunner):
    """Runs each candidate on a device and compares its result with that of NumPy.

    ``measurements`` are by the path of the candidate's file, for those who want more than the cost.
    Candidates whose PTX is the same are one measurement.
    """

    def __init__(self, layer: TunedLayer, measurements: dict[str, Measurement], device: str) -> None:
        super().__init__()
        self.layer = layer
        self.measurements = measurements
        self.device = device
        self.known: dict[PtxKernel, Measurement] = {}

    def run(self, runner_inputs: Sequence[meta_schedule.runner.RunnerInput]) -> list[_Done]:
        """MetaSchedule's call."""
        futures = []
        for each in runner_inputs:
            path = str(each.artifact_path)
            kernel = PtxKernel.from_dict(json.loads(Path(path).read_text()))
            if kernel not in self.known:
                self.known[kernel] = measure(kernel, self.layer, device=self.device)
            self.measurements[path] = self.known[kernel]
            futures.append(_Done(self.measurements[path]))
        return futures


def measure(kernel: PtxKernel, layer: TunedLayer, *, device: str = "sim") -> Measurement:
    """Run a kernel on a layer's operands, with all checks that the device has, and compare.

    Raises DeviceFailure where the device is missing.
    """
    try:
        out, counters, findings = _ran(kernel, layer, device)
    except DeviceFailure as failure:
        if failure.verdict == "device-missing":
            raise
        return Measurement(failure=f"{failure.verdict}: {failure}", wrong=True)
    differing = np.argwhere(out != layer.expected)
    if len(differing):
        first = tuple(int(index) for index in differing[0])
        return Measurement(
            counters,
            f"{len(differing)} of {out.size} elements differ, first at {list(first)}: "
            f"{out[first]} and not {layer.expected[first]}",
            wrong=True,
        )
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        found = f"{errors[0].kind} at {errors[0].where}: {errors[0].message}"
        return Measurement(counters, found, wrong=True)
    return Measurement(counters)


def _ran(
    kernel: PtxKernel, layer: TunedLayer, device: str
) -> tuple[np.ndarray, dict[str, int], Sequence[Finding]]:
    """The result, counters and findings of a kernel."""
    out = np.full(layer.expected.shape, 0x5A, layer.expected.dtype)
    files = files_of({NAME: kernel})
    if device == "sim":
        # NumPy in this process: nothing can die.
        report = machine_for("tensorcore")(files).call(NAME, [*layer.operands, out])
        return out, dict(report.counters), report.findings
    with exclusive(device), KernelProcess("tensorcore", files, device=device) as process:
        reports = [process.call(NAME, layer.operands, out) for _ in range(TIMES)]
    counters = min((report.counters for report in reports), key=cost_of)
    return out, dict(counters), [finding for report in reports for finding in report.findings]
