"""A concatenation of packed tensors as a VTA program: each part is stored to its slice of the result."""

from collections.abc import Sequence

from tvm import tirx

from kernels.vta.compiler import compile_program
from kernels.vta.moves import Move, Shape, moves_primfunc, schedule_moves
from simulators.vta.config import PYNQ, Config
from simulators.vta.program import Program

AXES = ("images", "channel blocks", "rows", "columns")


def concatenate(
    *shapes: Shape, axis: int, order: Sequence[int] | None = None, config: Config = PYNQ
) -> Program:
    """Compile a concatenation of int8 tensors (N/b, C/c, H, W, b, c), "data0", "data1" ..., to "out".

    axis: 0 to 3, of images, blocks of channels, rows or columns; blocks are not cut, so a part whose last
    block of channels is not full leaves a gap. order: which tensor (its number) stands where in the result;
    one may stand there several times. ValueError names what does not fit.
    """
    out, moves = _described(shapes, axis, order, config)
    function = moves_primfunc(shapes, out, moves)
    return compile_program(schedule_moves(function, shapes, moves, config), config)


def concatenate_primfunc(
    *shapes: Shape, axis: int, order: Sequence[int] | None = None, config: Config = PYNQ
) -> tirx.PrimFunc:
    """Describe the layer of `concatenate` with the same arguments and errors."""
    out, moves = _described(shapes, axis, order, config)
    return moves_primfunc(shapes, out, moves)


def _described(
    shapes: Sequence[Shape], axis: int, order: Sequence[int] | None, config: Config
) -> tuple[Shape, list[Move]]:
    places = list(range(len(shapes)) if order is None else order)
    if axis not in range(len(AXES)):
        raise ValueError(
            f"a concatenation along axis {axis}: 0 to 3 is possible, which are {', '.join(AXES)}"
        )
    if not shapes or set(places) != set(range(len(shapes))):
        raise ValueError(f"the order {places} does not name each of {len(shapes)} tensors")
    tile = config.batch, config.block
    for shape in shapes:
        same = [a == b for index, (a, b) in enumerate(zip(shape, shapes[0], strict=False)) if index != axis]
        if len(shape) != 6 or tuple(shape[4:]) != tile or min(shape) < 1:
            raise ValueError(f"data {tuple(shape)} is not packed as (N/{tile[0]}, C/{tile[1]}, H, W, ...)")
        if not all(same):
            raise ValueError(f"{tuple(shape)} and {tuple(shapes[0])} differ beside the {AXES[axis]}")
    moves, first = [], 0
    for source in places:
        offset = [0, 0, 0, 0]
        offset[axis] = first
        moves.append(Move(source, (offset[0], offset[1], offset[2], offset[3])))
        first += shapes[source][axis]
    return (*shapes[0][:axis], first, *shapes[0][axis + 1 :]), moves
