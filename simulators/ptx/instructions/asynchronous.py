"""cp.async: copies from global to shared memory that go on while instructions run."""

from types import SimpleNamespace as Form
from typing import TYPE_CHECKING

import numpy as np

from simulators.ptx.access import Port, absolute, address_of, all_lanes
from simulators.ptx.errors import UnsupportedInstructionError
from simulators.ptx.forms import Reader, Site, Step, executes
from simulators.ptx.memory import item_dtype
from simulators.ptx.syntax import Immediate, Operand, Register

if TYPE_CHECKING:
    from simulators.ptx.group import Group

SECTION = "Data Movement and Conversion Instructions"


@executes(
    "cp.async.<cache>.<to>.global.<prefetch?>", f"{SECTION}: cp.async", cache="ca cg",
    to="shared shared::cta", prefetch="L2::64B L2::128B L2::256B",
)  # fmt: skip
def cp_async(form: Form, site: Site) -> Step:
    """Start copying `size` bytes to shared memory: the first `n` from global memory, the others zeros."""
    site.expect(3, 4)
    size = _immediate(site, site.operands[2])
    if size not in ((16,) if form.cache == "cg" else (4, 8, 16)):
        raise site.fail(
            f".{form.cache} copies {'16' if form.cache == 'cg' else '4, 8 or 16'} bytes, not {size}"
        )
    to, to_offset = address_of(site, site.operands[0], "shared")
    source, source_offset = address_of(site, site.operands[1], "global")
    given = _bytes_read(site, size)
    target = Port(site.pc, "shared", size)
    load, load_byte = (Port(site.pc, "global", s) for s in (size, 1))

    def value_of(group: "Group") -> np.ndarray:
        base, mask = source(group), group.mask
        if given is None:
            return load.load(group, (base, mask), lambda: absolute(base, source_offset), mask)
        return _partly(group, absolute(base, source_offset), given(group))

    def _partly(group: "Group", address: np.ndarray, count: np.ndarray) -> np.ndarray:
        running = np.True_ if group.mask is None else group.mask
        whole = (count >= size) & running
        value = load.load_part(group, address, np.broadcast_to(whole, group.shape))
        some = (count > 0) & (count < size) & running
        if not some.any():
            return value
        parts = np.ascontiguousarray(value).view(np.uint8).reshape(*value.shape, size)
        for byte in range(size):
            reads = np.broadcast_to(some & (count > byte), group.shape)
            if reads.any():
                parts[..., byte] |= load_byte.load_part(group, address + np.uint64(byte), reads)
        return parts.view(item_dtype(size))[..., 0]

    def step(group: "Group") -> None:
        base = to(group)
        access, stamp = target.begin_store(
            group, (base, group.mask), lambda: all_lanes(group, absolute(base, to_offset)), group.mask
        )
        group.copies.issue(group, target, access, value_of(group), stamp)

    return step


def _immediate(site: Site, operand: Operand) -> int:
    if not isinstance(operand, Immediate):
        raise site.fail(f"expects a number, not {operand}")
    return operand.value


def _bytes_read(site: Site, size: int) -> Reader | None:
    """Make a function that gives how many bytes each thread reads; None where all read all."""
    if len(site.operands) == 3:
        return None
    operand = site.operands[3]
    if isinstance(operand, Register) and operand.type == "pred":
        ignored = site.read(operand, "pred")
        return lambda group: np.where(ignored(group), 0, size)
    if isinstance(operand, Register) and operand.type not in ("b32", "u32", "s32"):
        raise UnsupportedInstructionError(site.line, f"{site.instruction.name}: a cache policy")
    if isinstance(operand, Immediate) and operand.value >= size:
        return None
    return site.read(operand, "u32")


@executes("cp.async.commit_group", f"{SECTION}: cp.async.commit_group")
def cp_async_commit_group(form: Form, site: Site) -> Step:
    """Make one group of the thread's copies that are in none yet."""
    site.expect(0)
    return lambda group: group.copies.commit(group)


@executes("cp.async.wait_group", f"{SECTION}: cp.async.wait_group")
def cp_async_wait_group(form: Form, site: Site) -> Step:
    """Wait until at most the `n` latest groups of the thread's copies are still under way."""
    site.expect(1)
    allowed = _immediate(site, site.operands[0])
    return lambda group: group.copies.wait(group, allowed)


@executes("cp.async.wait_all", f"{SECTION}: cp.async.wait_all")
def cp_async_wait_all(form: Form, site: Site) -> Step:
    """Wait for all copies of the thread."""
    site.expect(0)
    return lambda group: group.copies.wait_all(group)
