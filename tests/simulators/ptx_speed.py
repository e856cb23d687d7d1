"""How fast the PTX machine runs a layer: `python -m tests.simulators.ptx_speed`."""

import resource
import time
from collections.abc import Callable

from simulators.report import Report


def fastest(launch: Callable[[bool], Report], times: int = 5) -> tuple[dict[bool, float], Report]:
    """The seconds of the processor without and with checks, the best of some runs that take turns."""
    best: dict[bool, float] = {}
    for check in (False, True) * times:
        start = time.process_time()
        report = launch(check)
        taken = time.process_time() - start
        best[check] = min(best.get(check, taken), taken)
    return best, report


def main() -> None:
    """Measure the 3x3 layers of TVM's HWNC test that have 64 channels and 56 by 56 places."""
    import numpy as np

    from kernels.tensorcore.conv2d import conv2d_primfunc, schedule_conv2d
    from kernels.tensorcore.ptx import compile_ptx
    from simulators import ptx
    from tests.kernels.tensorcore_reference import Conv, conv2d, operands, pack, stored

    for dtype in ("int4", "int8"):
        conv = Conv(56, 56, 8, 64, 64, (3, 3), padding=(1, 1, 1, 1), dtype=dtype)
        kernel = compile_ptx(
            schedule_conv2d(conv2d_primfunc(conv.data_shape, **conv.options())), name="layer"
        )
        data, weight = operands(conv.data_shape, dtype, 1), operands(conv.weight_shape, dtype, 2)
        out = np.zeros((56, 56, 8, 64), np.int32)
        buffers = {"data": stored(data, dtype), "weight": pack(weight, dtype), "out": out}
        module, arguments = ptx.parse(kernel.text), kernel.in_kernel_order(buffers)

        def launch(check: bool, kernel=kernel, module=module, arguments=arguments) -> Report:
            return module.launch(kernel.entry, kernel.grid, kernel.block, arguments, check=check)

        seconds, report = fastest(launch)
        np.testing.assert_array_equal(out, conv2d(conv, data, weight))
        assert report.findings == []
        issued = report.counters["warp_instructions"]
        mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(
            f"{dtype}: {issued} warp instructions in {seconds[False]:.3f} s "
            f"({issued / seconds[False] / 1e6:.2f} million a second), with checks {seconds[True]:.3f} s "
            f"({seconds[True] / seconds[False]:.2f} times); {mebibytes} MiB"
        )


if __name__ == "__main__":
    main()
