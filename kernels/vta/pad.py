"""A padding of a packed tensor with any number as a VTA program."""

from collections.abc import Sequence

from kernels.vta.alu import choose_tile, schedule_alu
from kernels.vta.compiler import compile_program
from kernels.vta.epilogue import Extra
from kernels.vta.layers import Axis, Pooling
from kernels.vta.tensorir import pad_primfunc
from simulators.vta.config import PYNQ, Config
from simulators.vta.program import Program


def pad(
    data_shape: Sequence[int],
    *,
    padding: tuple[int, int, int, int],
    value: int = 0,
    config: Config = PYNQ,
) -> Program:
    """Compile a padding of int8 "data" (N/b, C/c, H, W, b, c) to "out".

    padding is top, left, bottom, right. Zeros are the LOAD's own, as far as its fields go; any other int8
    comes from the ALU. ValueError names what does not fit.
    """
    function = pad_primfunc(data_shape, padding=padding, value=value, config=config)
    top, left, bottom, right = padding
    rows = Axis(data_shape[2], 1, 1, top, bottom)
    columns = Axis(data_shape[3], 1, 1, left, right)
    layer = Pooling(data_shape[0], data_shape[1], rows, columns)
    tile = choose_tile(layer, Extra(), config, windows=False)
    return compile_program(schedule_alu(function, tile), config)
