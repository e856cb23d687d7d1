"""The one way from an instruction to memory: addresses are resolved, the access counted, items moved.

A `Port` belongs to one instruction. It knows the space (or, for generic addresses, finds it for each thread)
and how many bytes an item has; what watches accesses is called from here and from nowhere else.
"""

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from simulators.ptx.forms import Reader, Site
from simulators.ptx.local_memory import LocalMemory
from simulators.ptx.memory import (
    LOCAL_BASE,
    LOCAL_WINDOW,
    SHARED_BASE,
    SHARED_WINDOW,
    Access,
    GlobalMemory,
    SharedMemory,
    item_dtype,
    same_bits,
)
from simulators.ptx.races import Watched
from simulators.ptx.syntax import Address, Operand, Symbol
from simulators.ptx.traffic import WORD, sectors, transactions

if TYPE_CHECKING:
    from simulators.ptx.group import Group

# Accesses of so few items are remembered by their pattern.
SMALL = 1 << 13

Addresses = Callable[[], np.ndarray]
Change = Callable[[np.ndarray, list[np.ndarray]], np.ndarray]


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

    def update(
        self, group: "Group", address: np.ndarray, mask: np.ndarray | None, change: Change,
        values: list[np.ndarray],
    ) -> np.ndarray:  # fmt: skip
        """Change items one thread after another, in order of block, warp and lane; gives what each found.

        `address`, of all three axes, may be generic. `change(items, values)` makes new items of old ones.
        """
        group.polled()
        found = np.zeros(group.shape, f"u{self.size}")

        def apply(items: np.ndarray, index: np.ndarray, running: np.ndarray) -> None:
            found[running] = one_after_another(items, index, change, [v[running] for v in values])

        spaces = [(self.space, np.uint64(0), mask)] if self.space else _spaces(address, mask)
        for space, base, part in spaces:
            self._count(group, space, "store", part)
            access = self._resolve(group, space, address - base, part)
            self._change(group, space, access, apply)
        return found

    def _change(
        self, group: "Group", space: str, access: Access,
        change: Callable[[np.ndarray, np.ndarray, np.ndarray], None],
    ) -> None:  # fmt: skip
        """Let `change(items, index, running)` do the change where the access goes, for those who do it."""
        keep = np.ones(group.shape, np.bool_) if access.keep is None else access.keep
        running = np.broadcast_to(keep, group.shape)
        if space == "shared":
            group.shared.load(access, group.findings)
            items = group.shared.items[self.size].reshape(-1)
        else:
            items = (group.local if space == "local" else group.memory).items[self.size]
        index = np.broadcast_to(access.by_block, group.shape)[running]
        if space == "local":
            change(items, index, running)
            return
        self._observe(group, space, access, "store")
        self._synchronise(group, space, access, reads=True, writes=True)
        self._watch_store(
            group, space, access,
            lambda: change(items, index, running),
            lambda: np.zeros((1,) * access.by_block.ndim, np.bool_),
        )  # fmt: skip

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
        memory: SharedMemory | LocalMemory | GlobalMemory = group.memory
        if space == "shared":
            memory = group.shared
        elif space == "local":
            memory = group.local
        return memory.resolve(address, self.size, mask, group.findings)

    def _load(self, group: "Group", space: str, access: Access) -> np.ndarray:
        if space == "local":
            return group.local.load(access)
        if space == "const":
            return group.memory.load(access)
        self._observe(group, space, access, "load")
        self._synchronise(group, space, access, reads=True, writes=False)
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
        if space == "local":
            group.local.store(access, value)
            return
        self._observe(group, space, access, "store")
        self._synchronise(group, space, access, reads=False, writes=True)
        if space == "shared":
            self._watch_store(
                group, space, access,
                lambda: group.shared.store(access, value, group.findings),
                lambda: same_bits(group.shared.contents(access), value),
            )  # fmt: skip
        else:
            self._watch_store(
                group, space, access,
                lambda: group.memory.store(access, value),
                lambda: same_bits(group.memory.load(access), value),
            )  # fmt: skip

    def _synchronise(self, group: "Group", space: str, access: Access, *, reads: bool, writes: bool) -> None:
        """Let the watcher know of an access by which blocks may come to know of each other."""
        if group.races is None or space != "global" or not self.polls or self.items_per_warp is not None:
            return
        running = group.everybody() if access.keep is None else np.broadcast_to(access.keep, group.shape)
        group.races.synchronise(access.index * self.size, running, reads=reads, writes=writes)

    def _watch_store(
        self, group: "Group", space: str, access: Access, move: Callable[[], None],
        equals: Callable[[], np.ndarray],
    ) -> None:  # fmt: skip
        """Let `move` do a store, with the watcher of races looking on if there is one."""
        races = group.races
        if races is None:
            move()
            return
        if space == "shared":
            history, index = group.shared.history(access)
            races.store(history, self._watched(space, 0), index, access.keep, move=move, equals=equals)
            return
        # Nothing where nobody is left to access.
        parts = group.memory.histories(access)
        for number, (history, base, index, keep) in enumerate(parts):
            last = number == len(parts) - 1
            races.store(
                history, self._watched(space, base), index, keep,
                move=move if last else _nothing, equals=equals,
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


def one_after_another(
    items: np.ndarray, index: np.ndarray, change: Change, values: list[np.ndarray]
) -> np.ndarray:
    """Change items of memory in order of the accesses; returns what each access found.

    At once go those to different items: first the first one to each, then the second, and so on.
    """
    order = np.argsort(index, kind="stable")
    ranked = index[order]
    begins = np.concatenate([[True], ranked[1:] != ranked[:-1]]) if ranked.size else np.zeros(0, np.bool_)
    position = np.arange(ranked.size)
    turn = position - np.maximum.accumulate(np.where(begins, position, 0))
    found = np.zeros(index.shape, items.dtype)
    by_turn = np.argsort(turn, kind="stable")
    ends = np.searchsorted(turn[by_turn], np.arange(turn.max(initial=-1) + 1), side="right")
    first = 0
    for end in ends:
        now = order[by_turn[first:end]]
        found[now] = items[index[now]]
        items[index[now]] = change(found[now], [v[now] for v in values])
        first = end
    return found


def _nothing() -> None:
    """The store of an access that lies in several buffers is done with the last of them."""


_WINDOWS = (
    ("shared", np.uint64(SHARED_BASE), np.uint64(SHARED_WINDOW)),
    ("local", np.uint64(LOCAL_BASE), np.uint64(LOCAL_WINDOW)),
)


def _spaces(address: np.ndarray, mask: np.ndarray | None) -> list[tuple[str, np.uint64, np.ndarray | None]]:
    """List the spaces that generic addresses lie in, where each begins and who addresses it."""
    active = np.True_ if mask is None else mask
    rest = np.ones((1,) * address.ndim, np.bool_)
    found: list[tuple[str, np.uint64, np.ndarray | None]] = []
    for space, base, size in _WINDOWS:
        inside = (address >= base) & (address < base + size)
        if inside.all():
            return [(space, base, mask)]
        if inside.any():
            found.append((space, base, inside & active))
            rest = rest & ~inside
    if not found:
        return [("global", np.uint64(0), mask)]
    return [*found, ("global", np.uint64(0), rest & active)]


def address_of(site: Site, operand: Operand, space: str) -> tuple[Reader, int]:
    """Split an address into the register (or constant) that it is based on, and the offset in bytes."""
    if not isinstance(operand, Address):
        raise site.fail(f"expects an address in brackets, not {operand}")
    if operand.base is None:
        value = operand.offset
        return lambda group: np.full((1, 1, 1), value, np.uint64), 0
    if isinstance(operand.base, Symbol):
        known = site.symbols.get(operand.base.name, ("global",))[0]
        # Where a name lies outside of the kernel is known at launch; it is global or constant.
        if known != (space if space in ("shared", "local") else "global"):
            raise site.fail(f"{operand.base.name} is not a variable of .{space or 'generic'} memory")
        return site.read(operand.base, "u64"), operand.offset
    if operand.base.type not in ("b32", "u32", "s32", "b64", "u64", "s64"):
        raise site.fail(f"{operand.base.name} is .{operand.base.type}, not an address")
    if operand.base.type[1:] == "32" and space not in ("shared", "local"):
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
