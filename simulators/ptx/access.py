"""The one way from an instruction to memory: addresses are resolved, the access counted, items moved.

A `Port` belongs to one instruction. It knows the space (or, for generic addresses, finds it for each thread)
and how many bytes an item has; what watches accesses is called from here and from nowhere else.
"""

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from simulators.ptx.forms import Reader, Site
from simulators.ptx.memory import SHARED_BASE, SHARED_WINDOW, Access, item_dtype, same_bits
from simulators.ptx.races import Watched
from simulators.ptx.syntax import Address, Operand, Symbol
from simulators.ptx.traffic import WORD, sectors, transactions

if TYPE_CHECKING:
    from simulators.ptx.group import Group

# Accesses of so few items are remembered by their pattern.
SMALL = 1 << 13

Addresses = Callable[[], np.ndarray]


class Port:
    """One instruction's access to memory in items of `size` bytes.

    Without `items_per_warp` each active thread moves one item and arrays are (blocks, warps, lanes); with it
    each active warp moves that many and arrays are (blocks, warps, ...). `polls` says that the items may be
    what another thread changes meanwhile. `arrange` brings the items of a warp into the order in which
    shared memory serves them, where that is another one.
    """

    def __init__(
        self, pc: int, space: str, size: int, *, items_per_warp: int | None = None, polls: bool = False,
        arrange: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:  # fmt: skip
        self.pc = pc
        self.space = space
        self.size = size
        self.items_per_warp = items_per_warp
        self.polls = polls
        self.arrange = arrange
        self._costs: dict[tuple, tuple[int, int]] = {}

    def load(self, group: "Group", key: tuple, addresses: Addresses, mask: np.ndarray | None) -> np.ndarray:
        """Load the items at some addresses; threads outside of the mask read zero.

        `key` has all arrays that the addresses and the mask come from: while they are the same objects,
        whose contents never change, the addresses are not computed and resolved again.
        """
        if self.polls:
            group.polled()
        if self.space:
            self._count(group, self.space, "load", None)
            return self._load(group, self.space, self._resolved(group, key, addresses, mask))
        address = addresses()
        total = np.zeros((1,) * address.ndim, item_dtype(self.size))
        for space, base, part in _spaces(address, mask):
            self._count(group, space, "load", part)
            value = self._load(group, space, self._resolve(group, space, address - base, part))
            total = value if part is None or part is mask else np.where(part, value, total)
        return total

    def load_part(self, group: "Group", address: np.ndarray, part: np.ndarray) -> np.ndarray:
        """Load for some of the running threads; the others read zero."""
        self._count(group, self.space, "load", part)
        return self._load(group, self.space, self._resolve(group, self.space, address, part))

    def store(
        self, group: "Group", key: tuple, addresses: Addresses, mask: np.ndarray | None, value: np.ndarray
    ) -> None:
        """Store the items; `key` as for a load."""
        if self.space:
            self._count(group, self.space, "store", None)
            self._store(group, self.space, self._resolved(group, key, addresses, mask), value)
            return
        address = addresses()
        for space, base, part in _spaces(address, mask):
            self._count(group, space, "store", part)
            self._store(group, space, self._resolve(group, space, address - base, part), value)

    def begin_store(
        self, group: "Group", key: tuple, addresses: Addresses, mask: np.ndarray | None
    ) -> tuple[Access, int]:
        """Resolve, count and check a store to shared memory that will be done later; also its stamp."""
        self._count(group, self.space, "store", None)
        access = self._resolved(group, key, addresses, mask)
        self._observe(group, self.space, access, "store")
        if group.races is None:
            return access, 0
        history, index = group.shared.history(access)
        return access, group.races.begin_copy(history, self._watched(self.space, 0), index, access.keep)

    def mark_store(self, group: "Group", access: Access, stamp: int) -> None:
        """Remember again that a store was begun and is not done."""
        if group.races is not None:
            history, index = group.shared.history(access)
            group.races.copy_under_way(history, self._watched(self.space, 0), index, access.keep, stamp)

    def end_store(self, group: "Group", access: Access, value: np.ndarray) -> None:
        """Do a store to shared memory that was begun before."""
        if group.races is not None:
            history, index = group.shared.history(access)
            group.races.land(history, self._watched(self.space, 0), index, access.keep)
        group.shared.store(access, value, group.findings)

    def _resolved(self, group: "Group", key: tuple, addresses: Addresses, mask: np.ndarray | None) -> Access:
        known = group.accesses.get(self)
        if known is not None and all(map(operator.is_, known[0], key)):
            return known[1]
        access = self._resolve(group, self.space, addresses(), mask)
        # A faulty access is looked at again each time, so that it is counted each time.
        if access.keep is mask:
            group.accesses[self] = (key, access)
        return access

    def _resolve(self, group: "Group", space: str, address: np.ndarray, mask: np.ndarray | None) -> Access:
        memory = group.shared if space == "shared" else group.memory
        return memory.resolve(address, self.size, mask, group.findings)

    def _load(self, group: "Group", space: str, access: Access) -> np.ndarray:
        self._observe(group, space, access, "load")
        races = group.races
        if space == "shared":
            if races is not None:
                history, index = group.shared.history(access)
                races.load(history, self._watched(space, 0), index, access.keep)
            return group.shared.load(access, group.findings)
        if races is not None:
            for history, base, index, keep in group.memory.histories(access):
                races.load(history, self._watched(space, base), index, keep)
        return group.memory.load(access)

    def _store(self, group: "Group", space: str, access: Access, value: np.ndarray) -> None:
        self._observe(group, space, access, "store")
        races = group.races
        if space == "shared":

            def store() -> None:
                group.shared.store(access, value, group.findings)

            if races is None:
                store()
                return
            history, index = group.shared.history(access)
            races.store(
                history, self._watched(space, 0), index, access.keep, move=store,
                equals=lambda: same_bits(group.shared.contents(access), value),
            )  # fmt: skip
            return
        if races is None:
            group.memory.store(access, value)
            return
        parts = group.memory.histories(access)
        for number, (history, base, index, keep) in enumerate(parts):
            last = number == len(parts) - 1
            races.store(
                history, self._watched(space, base), index, keep,
                move=(lambda: group.memory.store(access, value)) if last else _nothing,
                equals=lambda: same_bits(group.memory.load(access), value),
            )  # fmt: skip

    def _watched(self, space: str, base: int) -> Watched:
        return Watched(
            pc=self.pc, space=space, size=self.size, base=base,
            collective=self.items_per_warp is not None, atomic=self.polls,
        )  # fmt: skip

    def _observe(self, group: "Group", space: str, access: Access, what: str) -> None:
        """Count what hardware would do for the access."""
        if access.cost is None:
            access.cost = self._cost(group, space, access)
        traffic = group.counts.traffic
        if space == "shared":
            traffic["shared_transactions"] += access.cost[0]
            traffic["shared_bank_conflicts"] += access.cost[0] - access.cost[1]
        else:
            traffic[f"global_{what}_sectors"] += access.cost[0]
            group.memory.touch(access, what)

    def _cost(self, group: "Group", space: str, access: Access) -> tuple[int, int]:
        index, keep = access.by_block, access.keep
        if keep is not None:
            index = np.broadcast_to(index, np.broadcast_shapes(index.shape, keep.shape))
        # What does not vary between blocks or warps is the same for each of them.
        times = (group.shape[0] // index.shape[0]) * (group.shape[1] // index.shape[1])
        if space == "shared":
            if self.arrange is not None:
                index = self.arrange(index)
                keep = None if keep is None else self.arrange(np.broadcast_to(keep, access.index.shape))
            most, least = self._transactions(index, keep)
            return most * times, least * times
        return sectors(index, self.size, keep) * times, 0

    def _transactions(self, index: np.ndarray, keep: np.ndarray | None) -> tuple[int, int]:
        """Count transactions; what only lies some words further on takes as many."""
        if keep is not None or index.size > SMALL:
            return transactions(index, self.size, keep)
        first = int(index.flat[0])
        key = (first * self.size % WORD, index.shape, (index - first).tobytes())
        if key not in self._costs:
            self._costs[key] = transactions(index, self.size, keep)
        return self._costs[key]

    def _count(self, group: "Group", space: str, what: str, part: np.ndarray | None) -> None:
        """Add the bytes that active threads (or those of a part of them) move."""
        if part is not None:
            inner = group.shape[2:] if self.items_per_warp is None else part.shape[2:]
            items = int(np.count_nonzero(np.broadcast_to(part, (*group.shape[:2], *inner))))
        elif self.items_per_warp is None:
            items = group.active()
        else:
            items = group.active_warps() * self.items_per_warp
        group.count(f"{space}_{what}_bytes", items * self.size)


def _nothing() -> None:
    """The store of an access that lies in several buffers is done with the last of them."""


def _spaces(address: np.ndarray, mask: np.ndarray | None) -> list[tuple[str, np.uint64, np.ndarray | None]]:
    """List the spaces that generic addresses lie in, where each begins and who addresses it."""
    in_shared = (address >= np.uint64(SHARED_BASE)) & (address < np.uint64(SHARED_BASE + SHARED_WINDOW))
    if not in_shared.any():
        return [("global", np.uint64(0), mask)]
    if in_shared.all():
        return [("shared", np.uint64(SHARED_BASE), mask)]
    active = np.True_ if mask is None else mask
    return [
        ("shared", np.uint64(SHARED_BASE), in_shared & active),
        ("global", np.uint64(0), ~in_shared & active),
    ]


def address_of(site: Site, operand: Operand, space: str) -> tuple[Reader, int]:
    """Split an address into the register (or constant) that it is based on, and the offset in bytes."""
    if not isinstance(operand, Address):
        raise site.fail(f"expects an address in brackets, not {operand}")
    if operand.base is None:
        value = operand.offset
        return lambda group: np.full((1, 1, 1), value, np.uint64), 0
    if isinstance(operand.base, Symbol):
        in_shared = operand.base.name in site.symbols
        if in_shared != (space == "shared"):
            raise site.fail(f"{operand.base.name} is not a variable of .{space or 'generic'} memory")
        return site.read(operand.base, "u64"), operand.offset
    if operand.base.type not in ("b32", "u32", "s32", "b64", "u64", "s64"):
        raise site.fail(f"{operand.base.name} is .{operand.base.type}, not an address")
    if operand.base.type[1:] == "32" and space != "shared":
        raise site.fail(f"{operand.base.name} has 32 bits, an address of .{space or 'generic'} memory 64")
    slot = operand.base.slot
    return lambda group: group.registers[slot], operand.offset


def absolute(base: np.ndarray, offset: int) -> np.ndarray:
    """Add the offset of an address to its base, in the bits that the base has, as uint64."""
    if base.dtype.itemsize == 4:
        return (base + np.uint32(offset & 0xFFFF_FFFF)).astype(np.uint64)
    return base.astype(np.uint64, copy=False) + np.uint64(offset & 0xFFFF_FFFF_FFFF_FFFF)


def all_lanes(group: "Group", address: np.ndarray) -> np.ndarray:
    """Spread addresses over warps and lanes: every thread of a store writes, the last one's value stays."""
    return np.broadcast_to(address, (address.shape[0], *group.shape[1:]))
