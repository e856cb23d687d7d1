"""What the schedules of all layers have in common: stages in VTA's memories, and loops cut into tiles."""

from typing import NamedTuple

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV


class Stages(NamedTuple):
    """The blocks behind the accumulation of a layer (kernels.vta.tensorir), and the accumulation.

    tensors: copies of what has one number a channel. residuals: stages of what has the result's shape, a
    consumer before its producer.
    """

    acc: SBlockRV
    tensors: tuple[SBlockRV, ...]
    residuals: tuple[SBlockRV, ...]
    result: SBlockRV
    store: SBlockRV


def in_memories(sch: Schedule) -> Stages:
    """Let a layer's accumulators, its epilogue and its tensors lie in ACC; the store becomes a block."""
    acc, result = sch.get_sblock("acc"), sch.get_sblock("out")
    sch.set_scope(acc, 0, "local.acc")
    residuals: list[SBlockRV] = []
    for producer in sch.get_producers(result):
        block = producer
        while sch.get(block).name_hint != "acc":
            sch.set_scope(block, 0, "local.acc")
            residuals.append(block)
            if not sch.get_producers(block):
                break
            (block,) = sch.get_producers(block)
    reads = [str(each.source.scope()) for each in sch.get(result).reads]
    tensors = tuple(
        sch.cache_read(result, index, "local.acc")
        for index, scope in enumerate(reads)
        if scope in ("", "global")
    )
    return Stages(acc, tensors, tuple(residuals), result, sch.cache_write(result, 0, "local.out"))


def place_epilogue(sch: Schedule, stages: Stages, *, tile: LoopRV, channels: LoopRV) -> None:
    """Compute the epilogue and the accumulation within a tile, and load tensors once for its channels."""
    for block in (stages.result, *stages.residuals, stages.acc):
        sch.compute_at(block, tile, preserve_unit_loops=True)
    for tensor in stages.tensors:
        sch.compute_at(tensor, channels, preserve_unit_loops=True)


def cut(sch: Schedule, loop: LoopRV, size: int) -> tuple[LoopRV, LoopRV]:
    """Split a loop into tiles of a size, of which the last may be smaller."""
    outer, inner = sch.split(loop, [None, size])
    return outer, inner
