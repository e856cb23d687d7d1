"""Copies from global to shared memory that go on while instructions run.

Source: PTX ISA, "Asynchronous copy" and "cp.async". When such a copy lands is open until a wait says that it
has. Here it reads when it is issued and lands at the first wait that covers it, as late as it may: a kernel
that does not wait reads what was there before.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulators.ptx.access import Port
from simulators.ptx.memory import Access

if TYPE_CHECKING:
    from simulators.ptx.group import Group


@dataclass
class _Copy:
    """A copy under way: its destination, its value, who issued it, and the number of its copy group."""

    port: Port
    access: Access
    value: np.ndarray
    threads: np.ndarray | None
    number: np.ndarray
    stamp: int


class AsyncCopies:
    """The copies under way of a group of blocks. Copy groups are numbered by thread, from 0."""

    def __init__(self) -> None:
        self._under_way: list[_Copy] = []
        # How many copy groups each thread has committed; length 1 on axes along which that does not vary.
        self._committed = np.zeros((1, 1, 1), np.int64)

    def issue(self, group: "Group", port: Port, access: Access, value: np.ndarray, stamp: int) -> None:
        """Start copies to shared memory by the threads that run."""
        self._under_way.append(_Copy(port, access, value, group.mask, self._committed, stamp))

    def commit(self, group: "Group") -> None:
        """End the copy group of each thread that runs; the next copies belong to its next one."""
        more = np.True_ if group.mask is None else group.mask
        self._committed = self._committed + more

    def wait(self, group: "Group", allowed: int) -> None:
        """Land all copy groups but the last `allowed` of each thread that runs."""
        # The groups that are committed and no longer allowed to go on.
        self._land(group, self._committed - allowed)

    def wait_all(self, group: "Group") -> None:
        """Land all copies of the threads that run, committed or not."""
        self._land(group, self._committed + 1)

    def mark(self, group: "Group") -> None:
        """Tell the watcher of races again what is under way."""
        for copy in self._under_way:
            access = copy.access
            if copy.threads is not None:
                access = group.shared.restricted(access, copy.threads)
            copy.port.mark_store(group, access, copy.stamp)

    def _land(self, group: "Group", below: np.ndarray) -> None:
        left = []
        for copy in self._under_way:
            done = copy.number < below
            if group.mask is not None:
                done = done & group.mask
            concerned = done if copy.threads is None else done & copy.threads
            rest = ~done if copy.threads is None else copy.threads & ~done
            if not concerned.any():
                left.append(copy)
            elif not rest.any():
                copy.port.end_store(group, copy.access, copy.value)
            else:
                access = group.shared.restricted(copy.access, concerned)
                copy.port.end_store(group, access, copy.value)
                left.append(_Copy(copy.port, copy.access, copy.value, rest, copy.number, copy.stamp))
        self._under_way = left
