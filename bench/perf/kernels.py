"""The kernels that are held to limits, by the counters of their machines."""

from __future__ import annotations

from collections.abc import Sequence

from bench.devices.machines import machine_for
from bench.perf.kernel import CompiledLayer
from bench.perf.layers import KERNELS
from bench.perf.result import Measured, cost_of
from bench.perf.speed import Progress, note


def measure_kernels(measured: Measured, targets: Sequence[str], *, progress: Progress) -> None:
    """Compile and execute each kernel of :data:`KERNELS` once, and add what was counted."""
    for target in targets:
        if reason := machine_for(target).missing():
            note(measured, reason)
            continue
        for layer in KERNELS[target]:
            progress(f"kernels of {target}: {layer.name}")
            measured.kernels.append(cost_of(target, CompiledLayer(layer, target).counted()))
