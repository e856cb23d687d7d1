"""Branches, the end of a thread, barriers."""

from types import SimpleNamespace as Form
from typing import TYPE_CHECKING

from simulators.ptx.errors import KernelTrapError
from simulators.ptx.forms import Site, Step, executes
from simulators.ptx.group import END
from simulators.ptx.syntax import Immediate, Symbol

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
    label = site.operands[0]
    if not isinstance(label, Symbol) or label.name not in site.labels:
        raise site.fail(f"no label {getattr(label, 'name', label)} in this kernel")
    return _go(site, site.labels[label.name])


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


def _barrier(site: Site) -> Step:
    site.expect(1)
    if not isinstance(site.operands[0], Immediate) or site.operands[0].value != 0:
        raise site.fail("only barrier 0 is supported")
    following = site.pc + 1
    return lambda group: group.barrier(following)


@executes("bar.sync", "Parallel Synchronization and Communication Instructions: bar")
def bar_sync(form: Form, site: Site) -> Step:
    """Wait until every thread of the block that has not ended has arrived."""
    return _barrier(site)


@executes(
    "barrier.sync.<aligned?>",
    "Parallel Synchronization and Communication Instructions: barrier",
    aligned="aligned",
)
def barrier_sync(form: Form, site: Site) -> Step:
    """As bar.sync."""
    return _barrier(site)


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
    """Order memory accesses: nothing to do, every access here is complete before the next instruction."""
    site.expect(0)
    return lambda group: None
