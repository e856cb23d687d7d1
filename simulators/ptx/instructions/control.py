"""Branches, the end of a thread, barriers."""

from collections.abc import Callable
from types import SimpleNamespace as Form
from typing import TYPE_CHECKING, Any

import numpy as np

from simulators.ptx.errors import IllegalAddressError, KernelTrapError, UnsupportedInstructionError
from simulators.ptx.forms import Site, Step, executes, fencing
from simulators.ptx.group import END
from simulators.ptx.syntax import Immediate, Vector

if TYPE_CHECKING:
    from simulators.ptx.group import Group


def _go(site: Site, target: int) -> Step:
    """Send the threads whose guard holds to the target."""
    guard, negated, following = site.instruction.guard, site.instruction.guard_negated, site.pc + 1
    if guard is None:
        return lambda group: target
    slot = guard.slot

    def step(group: "Group") -> int | None:
        taken = group.registers[slot]
        if negated:
            taken = ~taken
        if taken.size == 1:
            return target if taken.item() else following
        if group.mask is None:
            some, every = bool(taken.any()), bool(taken.all())
        else:
            some, every = bool((taken & group.mask).any()), bool((taken | ~group.mask).all())
        if every:
            return target
        return group.split(taken, target, following) if some else following

    return step


@executes("bra.<uni?>", "Control Flow Instructions: bra", uni="uni")
def bra(form: Form, site: Site) -> Step:
    """Go on at the label, where the guard holds."""
    site.expect(1)
    return _go(site, site.target(site.operands[0]))


@executes("brx.idx.<uni?>", "Control Flow Instructions: brx.idx", uni="uni")
def brx_idx(form: Form, site: Site) -> Step:
    """Go on at label number a of the list, where the guard holds."""
    site.expect(2)
    read, listed = site.read(site.operands[0], "u32"), site.operands[1]
    assert isinstance(listed, Vector)  # the parser has put the labels there
    targets = np.array([site.target(label) for label in listed.items] or [site.pc])
    guard, negated, following = site.instruction.guard, site.instruction.guard_negated, site.pc + 1

    def step(group: "Group") -> int:
        index = read(group)
        going = group.everybody()
        if guard is not None:
            holds = group.registers[guard.slot]
            going = going & (~holds if negated else holds)
        outside = going & (index >= len(targets))
        if outside.any():
            wrong = int(np.broadcast_to(index, group.shape)[outside][0])
            raise IllegalAddressError(f"{group.findings.place()}: label {wrong} of a list of {len(targets)}")
        places = np.where(going, targets[np.minimum(index, len(targets) - 1)], following)
        chosen = places[group.everybody()]
        return int(chosen[0]) if (chosen == chosen[0]).all() else group.scatter(places)

    return step


@executes("ret.<uni?>", "Control Flow Instructions: ret", uni="uni")
def ret(form: Form, site: Site) -> Step:
    """End the thread (a kernel has no caller)."""
    site.expect(0)
    return _go(site, END)


@executes("exit", "Control Flow Instructions: exit")
def exit_(form: Form, site: Site) -> Step:
    """End the thread."""
    site.expect(0)
    return _go(site, END)


@executes("trap", "Miscellaneous Instructions: trap")
def trap(form: Form, site: Site) -> Step:
    """End the launch with an error."""
    site.expect(0)

    def step(group: "Group") -> None:
        raise KernelTrapError(f"{group.findings.place()}: the kernel gave up")

    return step


BARRIERS = 16
_BARRIER = "Parallel Synchronization and Communication Instructions: bar, barrier"


def _operand(site: Site, at: int) -> Callable[["Group"], int | None]:
    """Make a function that gives a barrier's number or its count of threads, which must be uniform."""
    if at >= len(site.operands):
        return lambda group: None
    read = site.read(site.operands[at], "u32")

    def value(group: "Group") -> int:
        values = read(group)
        if group.mask is not None:
            values = np.broadcast_to(values, group.shape)[group.everybody()]
        if (values != values.flat[0]).any():
            raise UnsupportedInstructionError(
                site.line, f"{site.instruction.name}: a number or count that differs between threads"
            )
        return int(values.flat[0])

    return value


def _barrier(site: Site, *, waits: bool = True) -> Step:
    site.expect(1, 2)
    given = site.operands[0]
    if isinstance(given, Immediate) and not 0 <= given.value < BARRIERS:
        raise site.fail(f"barrier {given.value}; a block has barriers 0 to {BARRIERS - 1}")
    number, count, following = _operand(site, 0), _operand(site, 1), site.pc + 1

    def step(group: "Group") -> int | None:
        return group.barrier(following, number(group) or 0, count(group), waits=waits)

    return step


@executes("bar.<cta?>.sync", _BARRIER, cta="cta")
def bar_sync(form: Form, site: Site) -> Step:
    """Wait until every thread of the block that has not ended, or b of them, have arrived at barrier a."""
    return _barrier(site)


@executes("bar.<cta?>.arrive", _BARRIER, cta="cta")
def bar_arrive(form: Form, site: Site) -> Step:
    """Arrive at barrier a, which b threads complete, and go on."""
    site.expect(2)
    return _barrier(site, waits=False)


@executes("barrier.<cta?>.sync.<aligned?>", _BARRIER, cta="cta", aligned="aligned")
def barrier_sync(form: Form, site: Site) -> Step:
    """As bar.sync."""
    return _barrier(site)


@executes("barrier.<cta?>.arrive.<aligned?>", _BARRIER, cta="cta", aligned="aligned")
def barrier_arrive(form: Form, site: Site) -> Step:
    """As bar.arrive."""
    site.expect(2)
    return _barrier(site, waits=False)


_REDUCE: dict[str, Callable[[np.ndarray], Any]] = {
    "popc": lambda votes: votes.sum(axis=(1, 2), keepdims=True, dtype=np.uint32),
    "and": lambda votes: votes.all(axis=(1, 2), keepdims=True),
    "or": lambda votes: votes.any(axis=(1, 2), keepdims=True),
}


def _reduction(form: Form, site: Site) -> Step:
    """Wait as bar.sync does; then each thread gets what became of the predicates of all that waited."""
    site.expect(3, 4)
    number = _operand(site, 1)
    count = _operand(site, 2) if len(site.operands) == 4 else (lambda group: None)
    if (form.operation == "popc") != (form.type == "u32"):
        raise site.fail(".popc gives .u32, .and and .or give .pred")
    write, read, following = (
        site.write(site.operands[0], form.type),
        site.read(site.operands[-1], "pred"),
        site.pc + 1,
    )

    def finish(group: "Group", votes: np.ndarray, threads: np.ndarray) -> None:
        """Give the result to the threads of a completed barrier."""
        neutral = votes | ~threads if form.operation == "and" else votes & threads
        mask, group.mask = group.mask, threads
        write(group, _REDUCE[form.operation](neutral))
        group.mask = mask

    def step(group: "Group") -> int | None:
        votes = np.broadcast_to(read(group), group.shape)
        return group.barrier(following, number(group) or 0, count(group), votes=votes, finish=finish)

    return step


@executes("bar.<cta?>.red.<operation>.<type>", _BARRIER, cta="cta", operation="popc and or", type="u32 pred")
def bar_red(form: Form, site: Site) -> Step:
    """As bar.sync; then `d` = how many of the waiting threads' c hold, or whether all or any do."""
    return _reduction(form, site)


@executes("barrier.<cta?>.red.<operation>.<aligned?>.<type>", _BARRIER, cta="cta", operation="popc and or",
          aligned="aligned", type="u32 pred")  # fmt: skip
def barrier_red(form: Form, site: Site) -> Step:
    """As bar.red."""
    return _reduction(form, site)


@executes("bar.warp.sync", "Parallel Synchronization and Communication Instructions: bar.warp.sync")
def bar_warp_sync(form: Form, site: Site) -> Step:
    """Wait for the warp's threads of the mask, which run in lockstep here; orders their accesses."""
    site.expect(1)
    site.read(site.operands[0], "b32")

    def step(group: "Group") -> None:
        if group.races is not None:
            group.races.warp_barrier(group.mask)

    return step


@executes(
    "membar.<level>", "Parallel Synchronization and Communication Instructions: membar", level="cta gl sys"
)
def membar(form: Form, site: Site) -> Step:
    """Order memory accesses, which are complete here before the next instruction: what matters to races."""
    site.expect(0)
    return fencing(form.level != "cta")


@executes("fence.<order?>.<scope>", "Parallel Synchronization and Communication Instructions: fence",
          order="sc acq_rel acquire release", scope="cta cluster gpu sys")  # fmt: skip
def fence(form: Form, site: Site) -> Step:
    """As membar."""
    site.expect(0)
    return fencing(form.scope != "cta")


@executes("nanosleep.u32", "Miscellaneous Instructions: nanosleep")
def nanosleep(form: Form, site: Site) -> Step:
    """Give others a turn."""
    site.expect(1)
    return lambda group: group.polled()
