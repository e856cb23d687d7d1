"""Global and shared memory as byte arrays, and what an access may not do.

An access has two halves. Resolving turns the addresses of the active threads into indices of items of the
access's size and reports what is wrong with them; it depends on the addresses alone, so its outcome can be
kept while they stay the same (`Access`). Moving then gathers or scatters. Each memory does both in one place,
so that whatever watches accesses (today uninitialised reads) has one place to stand.

A check that always runs costs one pass: the bitwise or of all offsets is aligned only if every offset is, and
below the memory's size, a power of two, only if every offset is.
"""

import bisect
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from simulators.ptx.errors import IllegalAddressError, LaunchError
from simulators.ptx.findings import Findings
from simulators.ptx.races import History

# Above 2^32, so that a pointer cut to 32 bits hits nothing; the shared window of generic addresses is
# elsewhere.
GLOBAL_BASE = 0x7F00_0000_0000
SHARED_BASE = 0x0001_0000_0000
SHARED_WINDOW = 1 << 24
LOCAL_BASE = 0x0002_0000_0000
LOCAL_WINDOW = 1 << 24
# Between two buffers, and before the first: more than what a tile that is off by one row or so would reach.
GUARD = 1 << 16

_ITEM: dict[int, np.dtype] = {
    1: np.dtype(np.uint8),
    2: np.dtype(np.uint16),
    4: np.dtype(np.uint32),
    8: np.dtype(np.uint64),
    16: np.dtype(np.complex128),  # only moved, never computed with
}


# An item all of whose bytes are 1.
ALL_ONE = {size: np.full(size, 1, np.uint8).view(dtype)[0] for size, dtype in _ITEM.items()}


def item_dtype(size: int) -> np.dtype:
    """Give the dtype that holds an item of 1, 2, 4, 8 or 16 bytes while it is moved."""
    return _ITEM[size]


@dataclass
class Access:
    """Resolved addresses: item indices, and which of the threads really access (None: all of them)."""

    index: np.ndarray
    size: int
    keep: np.ndarray | None = None
    # Shared memory only: every block has the same indices (then without the axis of blocks), perhaps
    # contiguous.
    by_row: bool = False
    run: slice | None = None
    # The bytes are known to have been written, or marked so: once true, true until the block ends.
    settled: bool = False
    # Global memory only: the buffer that all of it lies in, None where it lies in several or is not known.
    buffer: int | None = None
    # What hardware would do for it (traffic.py), once computed; and which kinds of access were marked.
    cost: tuple[int, int] | None = None
    marked: set[str] = field(default_factory=set)

    @property
    def by_block(self) -> np.ndarray:
        """The indices with an axis of blocks, of length 1 where all blocks have the same."""
        return self.index[None] if self.by_row else self.index


def as_items(memory: np.ndarray) -> dict[int, np.ndarray]:
    """View bytes as items of each size."""
    return {size: memory.view(dtype) for size, dtype in _ITEM.items()}


def power_of_two(size: int) -> int:
    """Give the smallest power of two that holds `size` bytes, 16 at least."""
    return 1 << max(4, (size - 1).bit_length())


def _spread(keep: np.ndarray, *arrays: np.ndarray) -> list[np.ndarray]:
    """Pick the elements of each array where `keep` holds, all broadcast against each other."""
    shape = np.broadcast_shapes(keep.shape, *(a.shape for a in arrays))
    where = np.broadcast_to(keep, shape)
    return [np.broadcast_to(a, shape)[where] for a in arrays]


def checked(
    offset: np.ndarray,
    size: int,
    mask: np.ndarray | None,
    *,
    limit: int,
    space: str,
    base: int,
    findings: Findings,
    outside: Callable[[np.ndarray, np.ndarray | None], np.ndarray | None],
) -> tuple[np.ndarray, np.ndarray | None]:
    """Offsets that are safe to use, and who accesses (None: everybody).

    `outside(offset, keep)` gives the accesses that leave what belongs to anybody, None where there are none.
    """
    keep = mask
    if mask is not None:
        offset = np.where(mask, offset, 0)
    joined = int(np.bitwise_or.reduce(offset, axis=None))
    aligned = joined & (size - 1) == 0
    if not findings.check:
        if not aligned or not 0 <= joined < limit:
            what = "is outside of all memory" if aligned else "is misaligned"
            raise IllegalAddressError(f"{findings.place()}: {space} access of {size} bytes {what}")
        return offset, keep
    suspects = {
        "misaligned": None if aligned else offset & (size - 1) != 0,
        "out-of-bounds": outside(offset, keep),
    }
    for kind, suspect in suspects.items():
        if suspect is not None:
            wrong = suspect if keep is None else suspect & keep
            if wrong.any():
                findings.note(kind, wrong, offset + base, size, space)
                keep = ~wrong if keep is None else keep & ~wrong
    if keep is not None and keep is not mask:
        offset = np.where(keep, offset, 0)
    return offset, keep


class GlobalMemory:
    """All buffers of a launch in one address space, with gaps between them that belong to nobody."""

    def __init__(self) -> None:
        self.buffers: list[np.ndarray] = []
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.symbols: dict[str, int] = {}
        self._next = GUARD

    def add(self, data: np.ndarray, align: int = 256) -> int:
        """Reserve room for a flat uint8 array; returns its address. Contents are copied in by `map`."""
        start = -(-self._next // align) * align
        self.buffers.append(data)
        self.starts.append(start)
        self.ends.append(start + data.size)
        self._next = start + data.size + GUARD
        return GLOBAL_BASE + start

    def map(self) -> None:
        """Lay out the memory and copy every buffer's contents in."""
        self.size = power_of_two(self._next)
        memory = np.zeros(self.size, np.uint8)
        for data, start, end in zip(self.buffers, self.starts, self.ends, strict=True):
            memory[start:end] = data
        self.items = as_items(memory)
        # For each byte 1 once it has been loaded, or stored.
        self._touched = {what: as_items(np.zeros(self.size, np.uint8)) for what in ("load", "store")}
        self._histories: dict[int, History] = {}

    def touch(self, access: Access, what: str) -> None:
        """Mark the bytes of an access as loaded or stored."""
        if what not in access.marked:
            index = access.index if access.keep is None else _spread(access.keep, access.index)[0]
            self._touched[what][access.size][index] = ALL_ONE[access.size]
            access.marked.add(what)

    def touched(self) -> int:
        """Count the bytes that were loaded, and those that were stored."""
        return sum(int(np.count_nonzero(marks[1])) for marks in self._touched.values())

    def histories(self, access: Access) -> list[tuple[History, int, np.ndarray, np.ndarray | None]]:
        """For each buffer an access lies in: its history and address, indices in it, and who accesses it."""
        index, keep, shift = access.index, access.keep, access.size.bit_length() - 1
        if access.buffer is None:
            active = index if keep is None else _spread(keep, index)[0]
            if active.size == 0:
                return []
            first, last = (self._buffer_at(int(end()) << shift) for end in (active.min, active.max))
            if first == last:
                access.buffer = first
            else:
                everybody = np.ones((1,) * index.ndim, np.bool_) if keep is None else keep
                return [
                    self._part(buffer, index, everybody & (index >= low) & (index < high), shift)
                    for buffer in range(first, last + 1)
                    for low, high in [(self.starts[buffer] >> shift, -(-self.ends[buffer] >> shift))]
                ]
        return [self._part(access.buffer, index, keep, shift)]

    def _buffer_at(self, offset: int) -> int:
        return bisect.bisect_right(self.starts, offset) - 1

    def _part(
        self, buffer: int, index: np.ndarray, keep: np.ndarray | None, shift: int
    ) -> tuple[History, int, np.ndarray, np.ndarray | None]:
        if buffer not in self._histories:
            self._histories[buffer] = History(self.ends[buffer] - self.starts[buffer])
        start = self.starts[buffer]
        return self._histories[buffer], GLOBAL_BASE + start, index - (start >> shift), keep

    def contents(self, buffer: int) -> np.ndarray:
        """Give the bytes of a buffer as they are now."""
        return self.items[1][self.starts[buffer] : self.ends[buffer]]

    def resolve(self, address: np.ndarray, size: int, mask: np.ndarray | None, findings: Findings) -> Access:
        """Addresses (uint64, any shape) of accesses to `size` bytes, as item indices."""

        def outside(offset: np.ndarray, keep: np.ndarray | None) -> np.ndarray | None:
            active = offset if keep is None else _spread(keep, offset)[0]
            if active.size == 0 or self._in_one_buffer(int(active.min()), int(active.max()) + size):
                return None
            at = np.searchsorted(np.array(self.starts), offset, side="right") - 1
            return (at < 0) | (offset + size > np.array(self.ends or [0])[np.maximum(at, 0)])

        offset, keep = checked(
            address.view(np.int64) - GLOBAL_BASE, size, mask,
            limit=self.size, space="global", base=GLOBAL_BASE, findings=findings, outside=outside,
        )  # fmt: skip
        return Access(offset >> (size.bit_length() - 1), size, keep)

    def _in_one_buffer(self, low: int, high: int) -> bool:
        """Whether one buffer holds all bytes from low to high: then no address needs a closer look."""
        at = bisect.bisect_right(self.starts, low) - 1
        return at >= 0 and high <= self.ends[at]

    def load(self, access: Access) -> np.ndarray:
        """Gather; threads that do not access read zero."""
        value = self.items[access.size].take(access.index)
        if access.keep is not None:
            value = np.where(access.keep, value, np.zeros((), value.dtype))
        return value

    def store(self, access: Access, value: np.ndarray) -> None:
        """Scatter; where several threads write one item, the last one's value stays."""
        scatter(self.items[access.size], access, value)


def same_bits(stored: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Compare items of memory with what a store has for them."""
    if stored.dtype.itemsize == 16:
        pairs = (np.ascontiguousarray(a).view(np.uint64).reshape(*a.shape, 2) for a in (stored, value))
        return np.asarray(np.equal(*pairs).all(axis=-1))
    return np.asarray(stored == value)


def scatter(items: np.ndarray, access: Access, value: np.ndarray) -> None:
    """Store into flat items; a thread after another in order of block, warp and lane wins."""
    if access.keep is None:
        shape = np.broadcast_shapes(access.index.shape, value.shape)
        items[np.broadcast_to(access.index, shape)] = value
    else:
        index, kept = _spread(access.keep, access.index, value)
        items[index] = kept


class SharedMemory:
    """The shared memory of each block of a group: one row of bytes a block."""

    def __init__(self, blocks: int, size: int) -> None:
        self.blocks, self.size = blocks, size
        self.row = power_of_two(size)
        self.items = as_items(np.zeros((blocks, self.row), np.uint8))
        # For each byte 1 once it has been written: one row for each block, or one while all blocks do alike.
        self.marks = as_items(np.zeros((1, self.row), np.uint8))
        self._initialised = size == 0
        self._history = History(self.row)

    def new_interval(self) -> None:
        """Note that all threads have met: races begin anew, and blocks may be alike again."""
        self._history.forget()
        if self._initialised:
            return
        marks = self.marks[1]
        if marks.shape[0] > 1 and (marks == marks[:1]).all():
            self.marks = as_items(marks[:1].copy())
        self._initialised = bool(self.marks[1][:, : self.size].all())

    def history(self, access: Access) -> tuple[History, np.ndarray]:
        """Give the history of the memory, and the indices of an access in it."""
        if not access.by_row:
            self._history.spread(self.blocks)
            return self._history, access.index
        index = access.by_block
        if self._history.rows > 1:
            index = index + self._first_items(access.size, index.ndim)
        return self._history, index

    def resolve(self, address: np.ndarray, size: int, mask: np.ndarray | None, findings: Findings) -> Access:
        """Addresses (uint64, axis 0 the blocks or of length 1) as item indices."""
        last = self.size - size

        def outside(offset: np.ndarray, keep: np.ndarray | None) -> np.ndarray | None:
            del keep
            if int(offset.min()) >= 0 and int(offset.max()) <= last:
                return None
            return (offset < 0) | (offset > last)

        offset, keep = checked(
            address.view(np.int64), size, mask,
            limit=self.row, space="shared", base=0, findings=findings, outside=outside,
        )  # fmt: skip
        index = offset >> (size.bit_length() - 1)
        if index.shape[0] == 1 and keep is None:
            flat = index.ravel()
            run = slice(int(flat[0]), int(flat[0]) + flat.size)
            contiguous = bool((flat == np.arange(run.start, run.stop)).all())
            return Access(index[0], size, None, by_row=True, run=run if contiguous else None)
        return Access(index + self._first_items(size, index.ndim), size, keep)

    def _first_items(self, size: int, axes: int) -> np.ndarray:
        """Index of the first item of each block, along the first of some axes."""
        return np.arange(self.blocks).reshape((-1,) + (1,) * (axes - 1)) * (self.row // size)

    def restricted(self, access: Access, threads: np.ndarray) -> Access:
        """Give the part of an access that some threads (blocks, warps, lanes) make."""
        index = access.index
        if access.by_row:
            index = index[None] + self._first_items(access.size, index.ndim + 1)
        keep = threads if access.keep is None else access.keep & threads
        return Access(index, access.size, keep)

    def load(self, access: Access, findings: Findings) -> np.ndarray:
        """Gather, blocks first; threads that do not access read zero."""
        if findings.check and not access.settled and not self._initialised:
            self._check_initialised(access, findings)
        return self.contents(access)

    def contents(self, access: Access) -> np.ndarray:
        """Gather, without any check."""
        value = self._gather(self.items[access.size], access)
        if access.keep is not None:
            value = np.where(access.keep, value, np.zeros((), value.dtype))
        return value

    def _gather(self, items: np.ndarray, access: Access) -> np.ndarray:
        if not access.by_row:
            return items.reshape(-1).take(access.index)
        if access.run is not None:
            return items[:, access.run].reshape(items.shape[0], *access.index.shape).copy()
        return items.take(access.index, axis=1)

    def _spread_marks(self, access: Access) -> None:
        if not access.by_row and self.marks[1].shape[0] == 1 < self.blocks:
            self.marks = as_items(np.repeat(self.marks[1], self.blocks, axis=0))

    def _check_initialised(self, access: Access, findings: Findings) -> None:
        self._spread_marks(access)
        marks = np.ascontiguousarray(self._gather(self.marks[access.size], access))
        ready = marks.view(np.uint8).reshape(*marks.shape, access.size).all(axis=-1)
        if access.keep is not None:
            ready = ready | ~access.keep
        if ready.all():
            access.settled = True
        else:
            address = access.by_block * access.size & (self.row - 1)
            shape = np.broadcast_shapes(ready.shape, address.shape)
            missing, address = np.broadcast_to(~ready, shape), np.broadcast_to(address, shape)
            findings.note("uninitialised", missing, address, access.size, "shared")

    def store(self, access: Access, value: np.ndarray, findings: Findings) -> None:
        """Scatter; where several threads of a block write one item, the last one's value stays."""
        self._scatter(self.items[access.size], access, value)
        if findings.check and not access.settled and not self._initialised:
            self._spread_marks(access)
            self._scatter(self.marks[access.size], access, ALL_ONE[access.size].reshape(1, 1, 1))
            access.settled = True

    def _scatter(self, items: np.ndarray, access: Access, value: np.ndarray) -> None:
        if access.by_row:
            shape = (items.shape[0], *access.index.shape)
            rows = np.broadcast_to(value.reshape(value.shape + (1,) * (len(shape) - value.ndim)), shape)
            items[:, access.run if access.run is not None else access.index.ravel()] = rows.reshape(
                items.shape[0], -1
            )
        else:
            scatter(items.reshape(-1), access, value)


def flat_bytes(array: np.ndarray) -> np.ndarray:
    """View the bytes of an array, copied if not contiguous; LaunchError where it has no plain items."""
    if array.dtype.hasobject:
        raise LaunchError(f"an array of dtype {array.dtype} cannot be given to a kernel")
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
