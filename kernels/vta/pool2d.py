"""Pooling on packed tensors as a VTA program: the window goes through the ALU."""

from collections.abc import Sequence

from kernels.vta.alu import choose_tile, schedule_alu
from kernels.vta.compiler import compile_program
from kernels.vta.epilogue import Epilogue, Extra
from kernels.vta.layers import Pooling
from kernels.vta.tensorir import pool2d_primfunc
from simulators.vta.config import PYNQ, Config
from simulators.vta.program import Program


def pool2d(
    data_shape: Sequence[int],
    *,
    kind: str,
    window: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    epilogue: Epilogue = (),
    config: Config = PYNQ,
) -> Program:
    """Compile a pooling of int8: the greatest ("max") or the sum ("sum") of each window.

    data is (N/b, C/c, H, W, b, c); the result "out" is int8 (N/b, C/c, OH, OW, b, c), the low 8 bits after
    the epilogue (kernels.vta.epilogue). padding is top, left, bottom, right; a maximum ignores it, for a sum
    it is zeros. An average over a window of 2^n is a sum and ("shr", n). ValueError names what does not fit.
    """
    layer = Pooling.of(data_shape, kind, window, strides, padding, config)
    function = pool2d_primfunc(
        data_shape,
        kind=kind,
        window=window,
        strides=strides,
        padding=padding,
        epilogue=epilogue,
        config=config,
    )
    tile = choose_tile(layer, Extra.of(epilogue), config, windows=True)
    return compile_program(schedule_alu(function, tile), config)
