"""Chains of ALU operations on a packed tensor as a VTA program, the sum of two tensors among them."""

from collections.abc import Sequence

from kernels.vta.alu import choose_tile, schedule_alu
from kernels.vta.compiler import compile_program
from kernels.vta.epilogue import Epilogue, Extra
from kernels.vta.layers import Pooling
from kernels.vta.tensorir import elementwise_primfunc
from simulators.vta.config import PYNQ, Config
from simulators.vta.program import Program


def elementwise(data_shape: Sequence[int], *, epilogue: Epilogue, config: Config = PYNQ) -> Program:
    """Compile ALU steps on int8 "data" (N/b, C/c, H, W, b, c), widened to int32, to int8 "out".

    The steps are those of kernels.vta.epilogue; ("add", Residual("other", 2)) adds a second tensor shifted
    left by 2. The result is the low 8 bits. ValueError names what does not fit.
    """
    layer = Pooling.of(data_shape, "sum", (1, 1), (1, 1), (0, 0, 0, 0), config)
    function = elementwise_primfunc(data_shape, epilogue=epilogue, config=config)
    tile = choose_tile(layer, Extra.of(epilogue), config, windows=False)
    return compile_program(schedule_alu(function, tile), config)
