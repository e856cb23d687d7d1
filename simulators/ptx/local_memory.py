"""Local memory: some bytes of each thread's own, where arrays, arguments and results of functions lie."""

import numpy as np

from simulators.ptx.findings import Findings
from simulators.ptx.memory import Access, as_items, checked, power_of_two, scatter


class LocalMemory:
    """The local memory of the threads of a group: a row of bytes for each, in order of block, warp, lane."""

    def __init__(self, shape: tuple[int, int, int], size: int) -> None:
        self.size = size
        self.row = power_of_two(size)
        threads = shape[0] * shape[1] * shape[2]
        self.items = as_items(np.zeros(threads * self.row if size else 0, np.uint8))
        self._thread = np.arange(threads).reshape(shape)

    def resolve(self, address: np.ndarray, size: int, mask: np.ndarray | None, findings: Findings) -> Access:
        """Addresses (uint64), each thread's own from 0 on, as item indices."""
        last = self.size - size

        def outside(offset: np.ndarray, keep: np.ndarray | None) -> np.ndarray | None:
            del keep
            if int(offset.min()) >= 0 and int(offset.max()) <= last:
                return None
            return (offset < 0) | (offset > last)

        offset, keep = checked(
            address.view(np.int64), size, mask,
            limit=self.row, space="local", base=0, findings=findings, outside=outside,
        )  # fmt: skip
        return Access((offset >> (size.bit_length() - 1)) + self._thread * (self.row // size), size, keep)

    def load(self, access: Access) -> np.ndarray:
        """Gather; threads that do not access read zero."""
        if not self.size:
            return np.zeros((1, 1, 1), self.items[access.size].dtype)
        value = self.items[access.size].take(access.index)
        if access.keep is not None:
            value = np.where(access.keep, value, np.zeros((), value.dtype))
        return value

    def store(self, access: Access, value: np.ndarray) -> None:
        """Scatter; each thread to its own row."""
        if self.size:
            scatter(self.items[access.size], access, value)
