"""Streams with tokens for tests."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from simulators.vta import isa
from simulators.vta.isa import Instruction, Load, Memory
from simulators.vta.order import ENGINES, engine_of


def nothing(memory: Memory = Memory.UOP) -> Load:
    """A LOAD that moves nothing: on the compute engine where it is of UOP, on the load engine of INP."""
    return Load(memory_type=memory, sram_base=0, dram_base=0, y_size=0, x_size=0, x_stride=0)


def serialised(stream: Sequence[Instruction], kept: Callable[[], bool] = lambda: True) -> list[Instruction]:
    """Give every instruction the tokens that make it wait for the one before it in the stream.

    kept says of each pair of neighbours whether it gets its token. Load and store engine have no queue
    between them: where one follows the other, a NOP of the compute engine passes the token on.
    """
    chained: list[Instruction] = []
    for each in stream:
        if chained and {engine_of(chained[-1]), engine_of(each)} == {"load", "store"}:
            chained.append(nothing())
        chained.append(each)
    for place in range(len(chained) - 1):
        source, target = (ENGINES.index(engine_of(each)) for each in chained[place : place + 2])
        if source != target and kept():
            down = target > source
            chained[place] = replace(chained[place], **{"push_next" if down else "push_prev": True})
            chained[place + 1] = replace(chained[place + 1], **{"pop_prev" if down else "pop_next": True})
    return chained


def encoded(stream: Sequence[Instruction], config):
    """The words of a serialised stream with its FINISH."""
    return isa.encode(serialised([*stream, isa.Finish()]), config)
