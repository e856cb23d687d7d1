"""A matrix product scheduled by hand, for shapes that Hypothesis draws.

    bitexact verify examples/my_schedule_in_many_shapes.py --target tensorcore --instruction wmma.mma

`block` is what is computed for one shape, `kernel` schedules it, and `shapes` says which shapes there are.
Where one fails, the smallest that does is looked for, and in it the smallest operands.
"""

from hypothesis import strategies
from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from kernels.tensorcore.dense import dense_primfunc, schedule_dense

# Rows, columns and depth, in tiles of wmma m8n32k16.
shapes = strategies.tuples(*[strategies.integers(1, 4)] * 3)


def block(shape: tuple[int, int, int]) -> PrimFunc:
    """The product for one shape."""
    rows, columns, depth = shape
    return dense_primfunc((8 * rows, 16 * depth), units=32 * columns)


def kernel(schedule: Schedule) -> Schedule:
    """The schedule, whatever the shape."""
    return Schedule(schedule_dense(schedule.mod["main"]))
