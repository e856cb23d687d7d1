"""Order between blocks: what a thread did before a fence and an atomic, for whoever reads that and fences.

Source: PTX ISA, "Memory Consistency Model", release and acquire patterns. A fence of the device's scope
and then an atomic or volatile write to a place release what came before the fence: what the thread itself
did, what the threads of its block did before the last barrier, and what it has acquired. An atomic or
volatile read of the place that finds it there and then a fence acquire it, for the thread and, from the
next barrier on, for its block.

Stamps are those of races.py: what has a lower one was earlier.
"""

from dataclasses import dataclass, field


@dataclass
class Knowledge:
    """What is known to have happened: up to which stamp all of a block, and up to which each thread."""

    blocks: dict[int, int] = field(default_factory=dict)
    threads: dict[tuple[int, int], int] = field(default_factory=dict)

    def learn(self, other: "Knowledge") -> None:
        """Take over what another knows."""
        for block, stamp in other.blocks.items():
            self.blocks[block] = max(stamp, self.blocks.get(block, 0))
        for thread, stamp in other.threads.items():
            self.threads[thread] = max(stamp, self.threads.get(thread, 0))

    def covers(self, block: int, thread: int, stamp: int) -> bool:
        """Whether an access of a thread was before all that this is about."""
        return stamp < self.blocks.get(block, 0) or stamp < self.threads.get((block, thread), 0)


class Ordering:
    """Who has released what at which address, and who knows of it. Blocks by their number in the grid."""

    def __init__(self) -> None:
        self.released: dict[int, Knowledge] = {}
        # What threads have read and not yet fenced, and what they have, and blocks have, acquired.
        self.pending: dict[tuple[int, int], Knowledge] = {}
        self.acquired: dict[tuple[int, int], Knowledge] = {}
        self.of_blocks: dict[int, Knowledge] = {}

    def release(self, address: int, block: int, thread: int, *, fenced: int, barrier: int) -> None:
        """Note a write behind a fence of a thread, with the stamps of that and of the barrier before it."""
        place = self.released.setdefault(address, Knowledge())
        place.learn(Knowledge({block: barrier}, {(block, thread): fenced}))
        for known in (self.acquired.get((block, thread)), self.of_blocks.get(block)):
            if known is not None:
                place.learn(known)

    def read(self, address: int, block: int, thread: int) -> None:
        """Note a read of what may have been released."""
        if address in self.released:
            self.pending.setdefault((block, thread), Knowledge()).learn(self.released[address])

    def fence(self, block: int, thread: int) -> None:
        """Note a fence: what the thread has read before it is acquired."""
        read = self.pending.pop((block, thread), None)
        if read is not None:
            self.acquired.setdefault((block, thread), Knowledge()).learn(read)

    def barrier(self, block: int) -> None:
        """Note a barrier: the block knows what its threads do."""
        for (where, thread), known in list(self.acquired.items()):
            if where == block:
                self.of_blocks.setdefault(block, Knowledge()).learn(known)
                del self.acquired[where, thread]

    def orders(self, earlier: tuple[int, int, int], block: int, thread: int) -> bool:
        """Whether an earlier access, by block, thread and stamp, is known to a thread."""
        known = (self.acquired.get((block, thread)), self.of_blocks.get(block))
        return any(each is not None and each.covers(*earlier) for each in known)
