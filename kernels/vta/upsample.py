"""An upsampling of a packed tensor as a VTA program: each tile is loaded once and stored several times."""

from tvm import tirx

from kernels.vta.compiler import compile_program
from kernels.vta.layers import check_data
from kernels.vta.moves import Move, Shape, moves_primfunc, schedule_moves
from simulators.vta.config import PYNQ, Config
from simulators.vta.program import Program


def upsample(data_shape: Shape, *, factors: tuple[int, int], config: Config = PYNQ) -> Program:
    """Compile a repetition of rows and columns, of int8 "data0" (N/b, C/c, H, W, b, c) to "out".

    Element (y, x) of the result is (y // factors[0], x // factors[1]) of the data. ValueError names what
    does not fit.
    """
    out, moves = _described(data_shape, factors, config)
    function = moves_primfunc([data_shape], out, moves)
    return compile_program(schedule_moves(function, [data_shape], moves, config), config)


def upsample_primfunc(data_shape: Shape, *, factors: tuple[int, int], config: Config = PYNQ) -> tirx.PrimFunc:
    """Describe the layer of `upsample` with the same arguments and errors."""
    out, moves = _described(data_shape, factors, config)
    return moves_primfunc([data_shape], out, moves)


def _described(shape: Shape, factors: tuple[int, int], config: Config) -> tuple[Shape, list[Move]]:
    check_data(shape, config)
    if len(factors) != 2 or min(factors) < 1:
        raise ValueError(f"factors {factors} are not two positive numbers")
    height, width = (size * factor for size, factor in zip(shape[2:4], factors, strict=True))
    return (*shape[:2], height, width, *shape[4:]), [Move(0, repeats=factors)]
