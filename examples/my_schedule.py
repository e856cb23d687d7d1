"""A matrix product scheduled by hand for tensor cores.

    bitexact verify examples/my_schedule.py --target tensorcore --instruction wmma.mma

`block` is what is computed, `kernel` schedules it. Change the schedule, and see what the bench says.
"""

from tvm.s_tir import Schedule

from kernels.tensorcore.dense import dense_primfunc, schedule_dense
from kernels.tensorcore.tiling import Tiling

block = dense_primfunc((64, 128), units=64)


def kernel(schedule: Schedule) -> Schedule:
    """One warp a block, each with one tile; a chunk of two steps of k in shared memory."""
    scheduled = schedule_dense(schedule.mod["main"], tiling=Tiling(chunk=2))
    return Schedule(scheduled)
