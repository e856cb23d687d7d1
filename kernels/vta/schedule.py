"""What the schedules of all layers begin with: stages in VTA's memories, and loops cut into tiles."""

from typing import NamedTuple

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV


class Stages(NamedTuple):
    """The blocks of a layer: what is loaded, accumulated, computed from that, and stored."""

    data: SBlockRV
    weight: SBlockRV
    tensors: tuple[SBlockRV, ...]
    acc: SBlockRV
    result: SBlockRV
    store: SBlockRV


def in_memories(sch: Schedule) -> Stages:
    """Give every stage of a layer (kernels.vta.tensorir) its memory; loads and the store become blocks."""
    acc, result = sch.get_sblock("acc"), sch.get_sblock("out")
    reads = len(sch.get(result).reads)
    if sch.get_producers(acc):
        (data,) = sch.get_producers(acc)
        sch.set_scope(data, 0, "local.inp")
    else:
        data = sch.cache_read(acc, 0, "local.inp")
    weight = sch.cache_read(acc, 1, "local.wgt")
    sch.set_scope(acc, 0, "local.acc")
    tensors = tuple(sch.cache_read(result, index, "local.acc") for index in range(1, reads))
    store = sch.cache_write(result, 0, "local.out")
    return Stages(data, weight, tensors, acc, result, store)


def cut(sch: Schedule, loop: LoopRV, size: int) -> tuple[LoopRV, LoopRV]:
    """Split a loop into tiles of a size, of which the last may be smaller."""
    outer, inner = sch.split(loop, [None, size])
    return outer, inner
