"""Global and shared memory as byte arrays, and what an access may not do.

An access has two halves. Resolving turns the addresses of the active threads into indices of items of the access's
size and reports what is wrong with them; it depends on the addresses alone, so its outcome can be kept while they
stay the same (`Access`). Moving then gathers or scatters. Both memories do it in one place each, so that whatever
watches accesses (today uninitialised reads) has one place to stand.

A check that always runs costs one pass: the bitwise or of all offsets is aligned only if every offset is, and below
the memory's size, a power of two, only if every offset is.
"""

import bisect
from dataclasses import dataclass

import numpy as np

from simulators.ptx.errors import IllegalAddressError, LaunchError
from simulators.ptx.findings import Findings

# Above 2^32, so that a pointer cut to 32 bits hits nothing; the shared window of generic addresses is elsewhere.
GLOBAL_BASE = 0x7F00_0000_0000
SHARED_BASE = 0x0001_0000_0000
SHARED_WINDOW = 1 << 24
# Between two buffers, and before the first: more than any displacement a kernel's off-by-one tile would make.
GUARD = 1 << 16

_ITEM: dict[int, np.dtype] = {
    1: np.dtype(np.uint8),
    2: np.dtype(np.uint16),
    4: np.dtype(np.uint32),
    8: np.dtype(np.uint64),
    16: np.dtype(np.complex128),  # only moved, never computed with
}


@dataclass
class Access:
    """Resolved addresses: item indices, and which of the threads really access (None: all of them)."""

    index: np.ndarray
    size: int
    keep: np.ndarray | None = None
    # Shared memory only: every block has the same indices (then without the axis of blocks), perhaps contiguous.
    by_row: bool = False
    run: slice | None = None
    # The bytes are known to have been written, or marked so: once true, true until the block ends.
    settled: bool = False


def _items(memory: np.ndarray) -> dict[int, np.ndarray]:
    return {size: memory.view(dtype) for size, dtype in _ITEM.items()}


def _power_of_two(size: int) -> int:
    return 1 << max(4, (size - 1).bit_length())


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
        self.size = _power_of_two(self._next)
        self.bytes = np.zeros(self.size, np.uint8)
        for data, start, end in zip(self.buffers, self.starts, self.ends, strict=True):
            self.bytes[start:end] = data
        self.items = _items(self.bytes)

    def contents(self, buffer: int) -> np.ndarray:
        """The bytes of a buffer as they are now."""
        return self.bytes[self.starts[buffer] : self.ends[buffer]]

    def resolve(self, address: np.ndarray, size: int, mask: np.ndarray | None, findings: Findings) -> Access:
        """Addresses (uint64, any shape) of accesses to `size` bytes, as item indices."""
        offset = address.view(np.int64) - GLOBAL_BASE
        keep = mask
        if mask is not None:
            offset = np.where(mask, offset, 0)
        joined = int(np.bitwise_or.reduce(offset, axis=None))
        aligned = joined & (size - 1) == 0
        if findings.check:
            if not aligned:
                keep = findings.drop("misaligned", offset & (size - 1) != 0, address, keep, size, "global")
                offset = np.where(keep, offset, 0)
            if keep is None or keep.any():
                active = (
                    offset
                    if keep is None
                    else np.where(keep, offset, np.broadcast_to(offset, keep.shape)[keep][0])
                )
                if not self._in_one_buffer(int(active.min()), int(active.max()) + size):
                    keep = self._drop_outside(offset, address, size, keep, findings)
                    offset = offset if keep is None else np.where(keep, offset, 0)
        elif not aligned or not 0 <= joined < self.size:
            raise IllegalAddressError(
                f"{findings.place()}: global access of {size} bytes is misaligned or outside of all memory"
            )
        return Access(offset >> (size.bit_length() - 1), size, keep)

    def _in_one_buffer(self, low: int, high: int) -> bool:
        """Whether one buffer holds all bytes from low to high: then no address needs a closer look."""
        at = bisect.bisect_right(self.starts, low) - 1
        return at >= 0 and high <= self.ends[at]

    def _drop_outside(
        self,
        offset: np.ndarray,
        address: np.ndarray,
        size: int,
        keep: np.ndarray | None,
        findings: Findings,
    ) -> np.ndarray | None:
        """Addresses of several buffers, or wrong ones: look at each."""
        at = np.searchsorted(np.array(self.starts), offset, side="right") - 1
        ends = np.array(self.ends)[np.maximum(at, 0)]
        outside = (at < 0) | (offset + size > ends)
        return findings.drop("out-of-bounds", outside, address, keep, size, "global")

    def load(self, access: Access) -> np.ndarray:
        """Gather; threads that do not access read zero."""
        value = self.items[access.size].take(access.index)
        if access.keep is not None:
            value = np.where(access.keep, value, np.zeros((), value.dtype))
        return value

    def store(self, access: Access, value: np.ndarray) -> None:
        """Scatter; where several threads write one item, the last one's value stays."""
        items = self.items[access.size]
        if access.keep is None:
            items[access.index] = value
        else:
            keep = np.broadcast_to(access.keep, np.broadcast_shapes(access.index.shape, access.keep.shape))
            items[np.broadcast_to(access.index, keep.shape)[keep]] = np.broadcast_to(value, keep.shape)[keep]


class SharedMemory:
    """The shared memory of each block of a group: one row of bytes a block."""

    def __init__(self, blocks: int, size: int) -> None:
        self.blocks, self.size = blocks, size
        self.row = _power_of_two(size)
        self.bytes = np.zeros((blocks, self.row), np.uint8)
        self.initialised = np.zeros((blocks, self.row), np.uint8)
        self.items = _items(self.bytes)
        self.marks = _items(self.initialised)

    def resolve(self, address: np.ndarray, size: int, mask: np.ndarray | None, findings: Findings) -> Access:
        """Addresses (uint64, axis 0 the blocks or of length 1) as item indices."""
        offset = address.view(np.int64)
        keep = mask
        if mask is not None:
            offset = np.where(mask, offset, 0)
        joined = int(np.bitwise_or.reduce(offset, axis=None))
        aligned = joined & (size - 1) == 0
        if findings.check:
            if not aligned:
                keep = findings.drop("misaligned", offset & (size - 1) != 0, address, keep, size, "shared")
                offset = np.where(keep, offset, 0)
            if not 0 <= int(offset.min()) <= int(offset.max()) <= self.size - size:
                outside = (offset < 0) | (offset > self.size - size)
                keep = findings.drop("out-of-bounds", outside, address, keep, size, "shared")
                offset = np.where(keep, offset, 0)
        elif not aligned or not 0 <= joined < self.row:
            raise IllegalAddressError(
                f"{findings.place()}: shared access of {size} bytes is misaligned or outside of all memory"
            )
        index = offset >> (size.bit_length() - 1)
        if index.shape[0] == 1 and keep is None:
            flat = index.ravel()
            run = slice(int(flat[0]), int(flat[0]) + flat.size)
            contiguous = bool((flat == np.arange(run.start, run.stop)).all())
            return Access(index[0], size, None, by_row=True, run=run if contiguous else None)
        rows = np.arange(self.blocks).reshape((-1,) + (1,) * (index.ndim - 1))
        return Access(index + rows * (self.row // size), size, keep)

    def load(self, access: Access, findings: Findings) -> np.ndarray:
        """Gather, blocks first; threads that do not access read zero."""
        if findings.check and not access.settled:
            self._check_initialised(access, findings)
        value = self._gather(self.items[access.size], access)
        if access.keep is not None:
            value = np.where(access.keep, value, np.zeros((), value.dtype))
        return value

    def _gather(self, items: np.ndarray, access: Access) -> np.ndarray:
        if not access.by_row:
            return items.reshape(-1).take(access.index)
        if access.run is not None:
            return items[:, access.run].reshape(self.blocks, *access.index.shape).copy()
        return items.take(access.index, axis=1)

    def _check_initialised(self, access: Access, findings: Findings) -> None:
        ready = np.ascontiguousarray(self._gather(self.marks[access.size], access))
        ready = ready.view(np.uint8).reshape(*ready.shape, access.size).all(axis=-1)
        if access.keep is not None:
            ready = ready | ~access.keep
        if ready.all():
            access.settled = True
        else:
            address = access.index * access.size
            if not access.by_row:
                address = address % self.row
            findings.note(
                "uninitialised", ~ready, np.broadcast_to(address, ready.shape), access.size, "shared"
            )

    def store(self, access: Access, value: np.ndarray, findings: Findings) -> None:
        """Scatter; where several threads of a block write one item, the last one's value stays."""
        self._scatter(self.items[access.size], access, value)
        if findings.check and not access.settled:
            every = np.full(access.size, 1, np.uint8).view(_ITEM[access.size])
            self._scatter(self.marks[access.size], access, every)
            access.settled = True

    def _scatter(self, items: np.ndarray, access: Access, value: np.ndarray) -> None:
        if access.by_row:
            shape = (self.blocks, *access.index.shape)
            rows = np.broadcast_to(value, shape).reshape(self.blocks, -1)
            items[:, access.run if access.run is not None else access.index.ravel()] = rows
        elif access.keep is None:
            items.reshape(-1)[access.index] = value
        else:
            keep = np.broadcast_to(access.keep, np.broadcast_shapes(access.index.shape, access.keep.shape))
            items.reshape(-1)[np.broadcast_to(access.index, keep.shape)[keep]] = np.broadcast_to(
                value, keep.shape
            )[keep]


def flat_bytes(array: np.ndarray) -> np.ndarray:
    """A copy-free view of a contiguous array's bytes, or a copy; LaunchError where it has no plain items."""
    if array.dtype.hasobject:
        raise LaunchError(f"an array of dtype {array.dtype} cannot be given to a kernel")
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
