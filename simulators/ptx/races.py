"""Finds races: two accesses to one place, at least one of them a write, that nothing puts in order.

Source: PTX ISA, "Memory Consistency Model". In order are the accesses of one thread; of two threads of a
block that a barrier lies between; and of two threads of a warp that a bar.warp.sync lies between. Threads of
different blocks are in the order that fences and atomics give them (ordering.py), else in none. Atomic and
volatile accesses do not race with each other.

A wmma or ldmatrix access is made by the warp: which of its threads touches what is open, so it is taken as by
one thread of its own. A cp.async races with everything from where it is issued until it is waited for.

The machine runs blocks and warps in one order out of many, so what has happened so far says little about what
may happen. Therefore each place remembers its last writer and its last two readers that differ, and every
access asks whether those came before the last barrier: then any order of execution keeps them apart.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simulators.ptx.findings import Findings
from simulators.ptx.ordering import Ordering

# Who and when in one integer: thread (10 bits), flags, block in its group (16), number of the access (34).
_THREAD = (1 << 10) - 1
_WARP = _THREAD & ~31
COLLECTIVE = 1 << 10
ATOMIC = 1 << 11
_UNDER_WAY = 1 << 12
_BLOCK_SHIFT = 13
_BLOCK = ((1 << 16) - 1) << _BLOCK_SHIFT
_SERIAL_SHIFT = 29
_LAST_SERIAL = (1 << 34) - 1
# What two accesses of one thread have in common.
_ONE_THREAD = _THREAD | COLLECTIVE | _UNDER_WAY
# Blocks of a group at most, so that their number fits.
MAX_BLOCKS = 1 << 16
COARSEST = 16


class AccessLog:
    """The accesses of a launch by number, so that a place need remember no more than that."""

    def __init__(self) -> None:
        self._pcs = array("i", [-1])
        self._under_way = array("i")
        self._groups: list[tuple[int, int]] = []
        self.ordering = Ordering()

    def begin_group(self, first_block: int) -> int:
        """Note that a group of blocks begins; returns the stamp below which all accesses were others'."""
        self._groups.append((len(self._pcs), first_block))
        return len(self._pcs) << _SERIAL_SHIFT

    def stamp(self, pc: int) -> int:
        """Number the next access, by instruction `pc`."""
        self._pcs.append(pc)
        return (len(self._pcs) - 1) << _SERIAL_SHIFT

    def now(self) -> int:
        """Give the stamp below which everything has happened by now."""
        return len(self._pcs) << _SERIAL_SHIFT

    def stamp_under_way(self, pc: int) -> int:
        """Number an access that is later than all barriers until it is waited for."""
        self._under_way.append(pc)
        return (_LAST_SERIAL + 1 - len(self._under_way)) << _SERIAL_SHIFT

    def pc(self, stamp: int) -> int:
        """Find the instruction of an access."""
        serial = stamp >> _SERIAL_SHIFT
        return self._under_way[_LAST_SERIAL - serial] if stamp & _UNDER_WAY else self._pcs[serial]

    def block(self, stamp: int, row: int) -> int:
        """Find the block of an access; `row` is its block in the present group, for shared memory."""
        if row >= 0:
            return self._groups[-1][1] + row
        serial = stamp >> _SERIAL_SHIFT
        group = len(self._groups) if stamp & _UNDER_WAY else bisect_right(self._groups, (serial, 1 << 62))
        return self._groups[group - 1][1] + ((stamp & _BLOCK) >> _BLOCK_SHIFT)


class History:
    """The last write and the last two reads, by different threads, of each place of some memory.

    A place is as large as the smallest access so far, 16 bytes at first. There is one row for each block, or
    one for all of them while they do the same.
    """

    def __init__(self, size: int) -> None:
        self.granule = COARSEST
        self.rows = 1
        self.used = {"write": False, "read": False}
        places = -(-size // COARSEST)
        self.written, self.read, self.read_before = (np.zeros((1, places), np.int64) for _ in range(3))

    def _transform(self, repeats: int, axis: int) -> None:
        self.written, self.read, self.read_before = (
            np.repeat(a, repeats, axis=axis) for a in (self.written, self.read, self.read_before)
        )

    def forget(self) -> None:
        """Forget all: what has happened is in order with whatever comes."""
        if any(self.used.values()):
            places = self.written.shape[1]
            self.rows = 1
            self.used = {"write": False, "read": False}
            self.written, self.read, self.read_before = (np.zeros((1, places), np.int64) for _ in range(3))

    def refine(self, size: int) -> None:
        """Make places no larger than an access."""
        if size < self.granule:
            self._transform(self.granule // size, axis=1)
            self.granule = size

    def spread(self, rows: int) -> None:
        """Give each block a row of its own."""
        if self.rows < rows:
            self._transform(rows, axis=0)
            self.rows = rows


@dataclass
class _Accessors:
    """An access place by place: which place, by whom (the first and the last who do it), since when.

    Axes of length 1 stand for threads that all do the same; the first and the last of them stand for all.
    """

    history: History
    watched: "Watched"
    place: np.ndarray
    first: np.ndarray
    last: np.ndarray
    since_block: np.ndarray
    since_warp: np.ndarray | None


@dataclass(frozen=True)
class Watched:
    """What an access is to the watcher: the instruction, its space and where the history begins."""

    pc: int
    space: str
    size: int
    base: int
    collective: bool
    atomic: bool


class Races:
    """Watches the accesses of one group of blocks."""

    def __init__(
        self, log: AccessLog, findings: Findings, shape: tuple[int, int, int], first_block: int
    ) -> None:
        self.log = log
        self.findings = findings
        self.shape = shape
        blocks, warps, lanes = shape
        thread = np.arange(warps * lanes, dtype=np.int64).reshape(1, warps, lanes)
        self._who = (np.arange(blocks, dtype=np.int64)[:, None, None] << _BLOCK_SHIFT) | thread
        self._begin = log.begin_group(first_block)
        # The stamps of the last barrier and of the last bar.warp.sync, of all axes or of length 1.
        self._since_block = np.full((1, 1, 1), self._begin, np.int64)
        self._since_warp: np.ndarray | None = None
        # Of each thread that has fenced: the stamps of its last fence, and of the barrier before that.
        self._fenced: np.ndarray | None = None
        self._before_fence: np.ndarray | None = None
        self._first_block = first_block

    def fence(self, threads: np.ndarray) -> None:
        """Note a fence of the device's scope by some threads (all axes)."""
        now = np.full((1, 1, 1), self.log.now(), np.int64)
        if self._fenced is None or self._before_fence is None:
            self._fenced = self._before_fence = np.zeros(self.shape, np.int64)
        self._fenced = np.where(threads, now, self._fenced)
        self._before_fence = np.where(threads, self._since_block, self._before_fence)
        if self.log.ordering.pending:
            for block, thread in self._each(threads):
                self.log.ordering.fence(block, thread)

    def synchronise(self, address: np.ndarray, threads: np.ndarray, *, reads: bool, writes: bool) -> None:
        """Note atomic or volatile accesses to global memory (all axes), one thread after the other."""
        ordering = self.log.ordering
        writes = writes and self._fenced is not None
        if not writes and not (reads and ordering.released):
            return
        addresses = np.broadcast_to(address, self.shape)[threads]
        for (block, thread), each in zip(self._each(threads), addresses.tolist(), strict=True):
            if reads:
                ordering.read(each, block, thread)
            if writes:
                at = (block - self._first_block, thread // 32, thread % 32)
                fenced, barrier = int(self._fenced[at]), int(self._before_fence[at])  # type: ignore[index]
                if fenced:
                    ordering.release(each, block, thread, fenced=fenced, barrier=barrier)

    def _each(self, threads: np.ndarray) -> list[tuple[int, int]]:
        """Block of the grid and thread of the block, of each of some threads (all axes)."""
        found = np.argwhere(threads)
        return [(self._first_block + block, warp * 32 + lane) for block, warp, lane in found.tolist()]

    def barrier(self, blocks: np.ndarray | None) -> None:
        """Note that all threads of some blocks (blocks, 1, 1), or of all, have met."""
        if self.log.ordering.acquired:
            met = np.ones(self.shape[0], np.bool_) if blocks is None else blocks.reshape(-1)
            for block in np.flatnonzero(met).tolist():
                self.log.ordering.barrier(self._first_block + block)
        now = np.full((1, 1, 1), self.log.now(), np.int64)
        self._since_block = now if blocks is None else np.where(blocks, now, self._since_block)
        if blocks is None:
            self._since_warp = None

    def warp_barrier(self, threads: np.ndarray | None) -> None:
        """Note that some threads (all axes), or all, have met those of their warp."""
        now = np.full((1, 1, 1), self.log.now(), np.int64)
        before = self._since_block if self._since_warp is None else self._since_warp
        self._since_warp = now if threads is None else np.where(threads, now, before)

    def load(self, history: History, watched: Watched, index: np.ndarray, keep: np.ndarray | None) -> None:
        """Check and remember a load of items (blocks, warps, ...), by those of `keep`."""
        accessors = self._accessors(history, watched, index, keep)
        if history.used["write"]:
            before = history.written.reshape(-1).take(accessors.place)
            self._check(accessors, before, ("read", "written"))
        self._remember_read(history, accessors, self._stamp(watched))

    def store(
        self, history: History, watched: Watched, index: np.ndarray, keep: np.ndarray | None,
        *, move: Callable[[], None], equals: Callable[[], np.ndarray],
    ) -> None:  # fmt: skip
        """Check and remember a store, and let `move` do it.

        `equals` says which items of memory are what the store has for them: to write what is there already
        is a warning only.
        """
        accessors = self._accessors(history, watched, index, keep)

        def harmless() -> np.ndarray:
            return _flat(equals(), index, keep, accessors)

        self._check_write(accessors, harmless)
        overwritten = self._remember_write(accessors, self._stamp(watched))
        move()
        if overwritten is not None:
            self._check(accessors, overwritten, ("written", "written"), harmless)

    def begin_copy(
        self, history: History, watched: Watched, index: np.ndarray, keep: np.ndarray | None
    ) -> int:
        """Check and remember a copy that goes on until its threads wait for it; returns its stamp."""
        accessors = self._accessors(history, watched, index, keep)
        self._check_write(accessors, None)
        stamp = self.log.stamp_under_way(watched.pc) | _UNDER_WAY
        overwritten = self._remember_write(accessors, stamp)
        if overwritten is not None:
            self._check(accessors, overwritten, ("written", "written"))
        return stamp

    def copy_under_way(
        self, history: History, watched: Watched, index: np.ndarray, keep: np.ndarray | None, stamp: int
    ) -> None:
        """Remember again a copy that was begun before and still goes on."""
        self._remember_write(self._accessors(history, watched, index, keep), stamp)

    def land(self, history: History, watched: Watched, index: np.ndarray, keep: np.ndarray | None) -> None:
        """Remember that a copy under way has been waited for."""
        accessors = self._accessors(history, watched, index, keep)
        mine = np.broadcast_to(accessors.last | self._stamp(watched), accessors.place.shape)
        history.written.reshape(-1)[accessors.place] = mine

    def _check_write(self, accessors: _Accessors, harmless: Callable[[], np.ndarray] | None) -> None:
        history, place = accessors.history, accessors.place
        if history.used["write"]:
            before = history.written.reshape(-1).take(place)
            self._check(accessors, before, ("written", "written"), harmless)
        if history.used["read"]:
            for reads in (history.read, history.read_before):
                self._check(accessors, reads.reshape(-1).take(place), ("written", "read"))

    def _stamp(self, watched: Watched) -> int:
        return self.log.stamp(watched.pc) | (ATOMIC if watched.atomic else 0)

    def _accessors(
        self, history: History, watched: Watched, index: np.ndarray, keep: np.ndarray | None
    ) -> _Accessors:
        """Bring an access into places of the history; flat where only some threads access."""
        history.refine(watched.size)
        who = self._who[:, :, :1] | COLLECTIVE if watched.collective else self._who
        extra = (1,) * (index.ndim - 3)
        who, since_block = (a.reshape(*a.shape, *extra) for a in (who, self._since_block))
        since_warp = None if self._since_warp is None else self._since_warp.reshape(
            *self._since_warp.shape, *extra)  # fmt: skip
        if since_warp is not None and watched.collective:
            since_warp = since_warp[:, :, :1]
        first, last = _ends(who, index.shape, watched.space == "shared")
        place = index
        if keep is not None:
            shape = np.broadcast_shapes(index.shape, keep.shape)
            where = np.broadcast_to(keep, shape)
            place, first, since_block = (np.broadcast_to(a, shape)[where] for a in (place, who, since_block))
            last = first
            if since_warp is not None:
                since_warp = np.broadcast_to(since_warp, shape)[where]
        ratio = watched.size // history.granule
        if ratio > 1:
            place = place[..., None] * ratio + np.arange(ratio)
            same = first is last
            first, since_block = first[..., None], since_block[..., None]
            last = first if same else last[..., None]
            since_warp = None if since_warp is None else since_warp[..., None]
        return _Accessors(history, watched, place, first, last, since_block, since_warp)

    def _check(
        self,
        accessors: _Accessors,
        before: np.ndarray,
        pair: tuple[str, str],
        harmless: Callable[[], np.ndarray] | None = None,
    ) -> None:
        """Make a finding where the accesses `before` are unordered with these; `pair` says what they did."""
        shared = accessors.watched.space == "shared"
        if not (before >= accessors.since_block if shared else before).any():
            return
        for who in (accessors.first, accessors.last):
            wrong = self._unordered(before, who, accessors, shared)
            if accessors.watched.atomic:
                wrong &= before & ATOMIC == 0
            if not shared and self.log.ordering.released and wrong.any():
                wrong &= ~self._ordered(before, who, wrong)
            if wrong.any():
                severity = "error"
                if harmless is not None:
                    harmful = wrong & ~harmless()
                    severity = "error" if harmful.any() else "warning"
                    wrong = harmful if harmful.any() else wrong
                self._report(accessors, before, who, wrong, pair=pair, severity=severity)
                return
            if accessors.first is accessors.last:
                return

    def _unordered(
        self, before: np.ndarray, who: np.ndarray, accessors: _Accessors, shared: bool
    ) -> np.ndarray:
        """Say where an earlier access is another thread's and nothing lies between."""
        difference = before ^ who
        others = difference & _ONE_THREAD != 0
        recent = before >= accessors.since_block
        if accessors.since_warp is not None:
            same_warp = difference & _WARP == 0
            recent &= ~same_warp | (before >= accessors.since_warp)
        if shared:
            return np.asarray(others & recent)
        other_block = (difference & _BLOCK != 0) | (before < self._begin)
        return np.asarray(np.where(other_block, before > 0, others & recent))

    def _ordered(self, before: np.ndarray, who: np.ndarray, suspected: np.ndarray) -> np.ndarray:
        """Say which of the suspected pairs of accesses fences and atomics have put in order."""
        ordering, found = self.log.ordering, np.zeros(suspected.shape, np.bool_)
        earlier, here = (np.broadcast_to(a, suspected.shape)[suspected] for a in (before, who))
        answers: dict[tuple[int, int], bool] = {}
        for pair in set(zip(earlier.tolist(), here.tolist(), strict=True)):
            stamp, mine = pair
            thread = stamp & _THREAD
            access = (self.log.block(stamp, -1), thread, stamp >> _SERIAL_SHIFT << _SERIAL_SHIFT)
            block = self._first_block + ((mine & _BLOCK) >> _BLOCK_SHIFT)
            answers[pair] = not stamp & _UNDER_WAY and ordering.orders(access, block, mine & _THREAD)
        found[suspected] = [answers[pair] for pair in zip(earlier.tolist(), here.tolist(), strict=True)]
        return found

    def _remember_write(self, accessors: _Accessors, stamp: int) -> np.ndarray | None:
        """Note a write; returns whose write to the same place stayed, 0 for one's own, None if all did."""
        written, place = accessors.history.written.reshape(-1), accessors.place
        mine = np.broadcast_to(accessors.last | stamp, place.shape)
        written[place] = mine
        accessors.history.used["write"] = True
        if accessors.first is not accessors.last:
            return np.broadcast_to(accessors.last | stamp, place.shape)
        stayed = written.take(place)
        lost = stayed != mine
        return np.where(lost, stayed, 0) if lost.any() else None

    def _remember_read(self, history: History, accessors: _Accessors, stamp: int) -> None:
        place = accessors.place
        read, read_before = history.read.reshape(-1), history.read_before.reshape(-1)
        mine = np.broadcast_to(accessors.last | stamp, place.shape)
        if history.used["read"]:
            known = read.take(place)
            others = ((known ^ mine) & (_ONE_THREAD | _BLOCK) != 0) | (known < self._begin)
            if others.any():
                read_before[place[others]] = known[others]
        history.used["read"] = True
        read[place] = mine
        if accessors.first is not accessors.last:
            read_before[place] = np.broadcast_to(accessors.first | stamp, place.shape)
            return
        other = read.take(place) != mine
        if other.any():
            read_before[place[other]] = mine[other]

    def _report(
        self, accessors: _Accessors, before: np.ndarray, who: np.ndarray, wrong: np.ndarray,
        *, pair: tuple[str, str], severity: str,
    ) -> None:  # fmt: skip
        """Make the finding: both accesses by thread, block and PTX line, and the address."""
        history, watched = accessors.history, accessors.watched
        at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        place, stamp, mine = (
            int(np.broadcast_to(a, wrong.shape)[at]) for a in (accessors.place, before, who)
        )
        row = -1
        if watched.space == "shared":
            row, place = divmod(place, history.written.shape[1])
        here, there = self._name(mine | self._begin, row), self._name(stamp, row)
        line, place_there = self.findings.line_of(self.log.pc(stamp))
        until = ", by a copy that was not waited for" if stamp & _UNDER_WAY else ""
        self.findings.add(
            "race",
            f"{watched.space} address {watched.base + place * history.granule:#x} is {pair[0]} by {here}, "
            f"and {pair[1]} by {there} at {place_there}{until}; nothing orders the two",
            pc=watched.pc,
            key=(line, *pair),
            # One row of the history may stand for all blocks.
            count=int(np.count_nonzero(wrong)) * (self.shape[0] if row >= 0 and history.rows == 1 else 1),
            severity=severity,
        )

    def _name(self, stamp: int, row: int) -> str:
        thread = stamp & _THREAD
        block, name = self.findings.geometry.locate(self.log.block(stamp, row), thread // 32, thread % 32)
        who = f"a thread of the warp of thread {name}" if stamp & COLLECTIVE else f"thread {name}"
        return f"{who} of block {block}"


def _ends(who: np.ndarray, shape: tuple[int, ...], same_blocks: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pick the first and the last thread along the axes that the places of an access do not vary on.

    They stand for all of them. With `same_blocks` each block has places of its own, so one is as good as all.
    """
    if same_blocks and shape[0] == 1:
        who = who[:1]
    varies = [n != 1 or m == 1 for n, m in zip(shape, who.shape, strict=False)]
    if all(varies):
        return who, who
    first = who[tuple(slice(None) if v else slice(0, 1) for v in varies)]
    last = who[tuple(slice(None) if v else slice(-1, None) for v in varies)]
    return first, last


def _flat(
    values: np.ndarray, index: np.ndarray, keep: np.ndarray | None, accessors: _Accessors
) -> np.ndarray:
    """Bring a value for each access into the shape of its places."""
    if keep is not None:
        shape = np.broadcast_shapes(index.shape, keep.shape)
        values = np.broadcast_to(values, shape)[np.broadcast_to(keep, shape)]
    return values if values.ndim == accessors.place.ndim else values[..., None]
