"""What the schedules share: a tile of accumulators that stays in vector registers."""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

MAX_ACCUMULATORS = 8  # of 32 vector registers: as many again hold the broadcast data words


def largest_divisor(number: int, limit: int) -> int:
    """Find the largest divisor of `number` that is at most `limit`."""
    return next(d for d in range(min(number, limit), 0, -1) if number % d == 0)


def finish_tile(
    schedule: Schedule,
    update: SBlockRV,
    write_back: SBlockRV,
    *,
    first_reduction: LoopRV,
    rows: int,
    intrinsic: str,
) -> None:
    """Unroll the tile of accumulators everywhere and tensorise the update.

    The loops of `update` end with `rows` loops over the tile, then 32 lanes and 4 bytes; those of
    `write_back` with the same loops and the lanes. Only constant indices let LLVM hold the tile in registers.
    """
    for block in (write_back, schedule.decompose_reduction(update, first_reduction)):
        *_, lane = loops = schedule.get_loops(block)
        for loop in loops[-rows - 1 : -1]:
            schedule.unroll(loop)
        schedule.vectorize(lane)
    loops = schedule.get_loops(update)
    for loop in loops[-rows - 2 : -2]:
        schedule.unroll(loop)
    schedule.tensorize(loops[-2], intrinsic)
