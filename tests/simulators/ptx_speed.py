"""How fast the PTX machine runs a layer: `python -m tests.simulators.ptx_speed`.

Measured are seconds of the processor, on one core, the best of some runs that take turns. A processor that is
slower, or that others use too, is slower with everything: beside the layer a peer is measured, plain NumPy of
the kinds that the machine is made of, and the speed is also given as on a processor that takes PEER_SECONDS
for it.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from simulators.report import Report

PEER_SECONDS = 0.040
"""What the peer takes on a quiet core of the machine that docs/ptx.md speaks of."""


@dataclass(frozen=True)
class Speed:
    """One layer: seconds by whether checks were on, and the peer's in the same run."""

    layer: str
    warp_instructions: int
    seconds: float
    seconds_with_checks: float
    peer_seconds: float
    mebibytes: int

    @property
    def per_second(self) -> float:
        """Warp instructions a second with checks off, here and now."""
        return self.warp_instructions / self.seconds

    @property
    def comparable(self) -> float:
        """The same on a processor that takes PEER_SECONDS for the peer."""
        return self.per_second * self.peer_seconds / PEER_SECONDS

    @property
    def cost_of_checks(self) -> float:
        """How many times as long it takes with checks."""
        return self.seconds_with_checks / self.seconds


def fastest(
    launch: Callable[[bool], Report], times: int = 5, peer: Callable[[], object] | None = None
) -> tuple[dict[bool, float], Report, float]:
    """The seconds of the processor without and with checks, the report, and the peer's seconds."""
    best: dict[bool, float] = {}
    best_of_peer = 0.0
    for _ in range(times):
        for check in (False, True):
            start = time.process_time()
            report = launch(check)
            taken = time.process_time() - start
            best[check] = min(best.get(check, taken), taken)
        if peer is not None:
            start = time.process_time()
            peer()
            taken = time.process_time() - start
            best_of_peer = min(best_of_peer or taken, taken)
    return best, report, best_of_peer


def make_peer() -> Callable[[], object]:
    """A product of matrices about as large as the layer's, gathers and integer arithmetic."""
    import numpy as np

    random = np.random.default_rng(1)
    a, b = (random.integers(-8, 8, (1024, 1024)).astype(np.float32) for _ in range(2))
    words = random.integers(0, 1 << 20, 1 << 20, dtype=np.int32)

    def peer() -> object:
        mixed = words
        for _ in range(6):
            mixed = (words.take(mixed & 0xFFFFF) ^ mixed) + words
        return a @ b, mixed

    return peer


def measure(dtype: str) -> Speed:
    """Measure the 3x3 layer of TVM's HWNC test that has 64 channels and 56 by 56 places, at batch 8."""
    import numpy as np

    from kernels.tensorcore.conv2d import conv2d_primfunc, schedule_conv2d
    from kernels.tensorcore.ptx import compile_ptx
    from simulators import ptx
    from tests.kernels.tensorcore_reference import Conv, conv2d, operands, pack, stored

    conv = Conv(56, 56, 8, 64, 64, (3, 3), padding=(1, 1, 1, 1), dtype=dtype)
    kernel = compile_ptx(schedule_conv2d(conv2d_primfunc(conv.data_shape, **conv.options())), name="layer")
    data, weight = operands(conv.data_shape, dtype, 1), operands(conv.weight_shape, dtype, 2)
    out = np.zeros((56, 56, 8, 64), np.int32)
    buffers = {"data": stored(data, dtype), "weight": pack(weight, dtype), "out": out}
    module, arguments = ptx.parse(kernel.text), kernel.in_kernel_order(buffers)

    def launch(check: bool) -> Report:
        return module.launch(kernel.entry, kernel.grid, kernel.block, arguments, check=check)

    seconds, report, peer_seconds = fastest(launch, peer=make_peer())
    np.testing.assert_array_equal(out, conv2d(conv, data, weight))
    assert report.findings == []
    return Speed(
        layer=f"{dtype} (8, 64, 56, 64, 3, 1, 1)",
        warp_instructions=report.counters["warp_instructions"],
        seconds=seconds[False],
        seconds_with_checks=seconds[True],
        peer_seconds=peer_seconds,
        mebibytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulators.ptx_speed")
    parser.add_argument("dtypes", nargs="*", default=["int4", "int8"], help="int4, int8 (default: both)")
    parser.add_argument("--json", action="store_true", help="print a list of objects instead")
    options = parser.parse_args()
    speeds = [measure(dtype) for dtype in options.dtypes]
    if options.json:
        print(json.dumps([asdict(speed) for speed in speeds]))
        return
    for speed in speeds:
        peer = f"where the peer takes {PEER_SECONDS:.3f} s and not {speed.peer_seconds:.3f}"
        print(
            f"{speed.layer}: {speed.warp_instructions} warp instructions in {speed.seconds:.3f} s "
            f"({speed.per_second / 1e6:.2f} million a second, {speed.comparable / 1e6:.2f} {peer}), "
            f"with checks {speed.cost_of_checks:.2f} times that; {speed.mebibytes} MiB"
        )


if __name__ == "__main__":
    if "numpy" not in sys.modules:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # one core; read as NumPy is loaded
    main()
