"""Atomic operations on memory."""

from collections.abc import Callable
from types import SimpleNamespace as Form
from typing import TYPE_CHECKING

import numpy as np

from simulators.ptx.access import Port, absolute, address_of
from simulators.ptx.errors import UnsupportedInstructionError
from simulators.ptx.forms import Site, Step, executes, ordered
from simulators.ptx.types import DTYPES, as_storage, storage

if TYPE_CHECKING:
    from simulators.ptx.group import Group

SECTION = "Parallel Synchronization and Communication Instructions"
_CHOICES = {
    "order": "relaxed acquire release acq_rel",
    "scope": "cta cluster gpu sys",
    "space": "global shared shared::cta",
    "type": "b16 b32 b64 u32 s32 u64 s64 f32 f64",
}
# As NVRTC writes the atomics of one block and of the whole system; cuda::atomic has the operation in front.
_WITHOUT_ORDER = {name: words for name, words in _CHOICES.items() if name != "order"}
_OPERATIONS = "and or xor cas exch add inc dec min max"
_ALLOWED = {
    "b16": "cas exch",
    "b32": "and or xor cas exch",
    "b64": "and or xor cas exch",
    "u32": "add inc dec min max",
    "s32": "add min max",
    "u64": "add min max",
    "s64": "add min max",
    "f32": "add",
    "f64": "add",
}

# What becomes of the value a in memory with operand b.
_NEW: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "exch": lambda a, b: b,
    "add": np.add,
    "inc": lambda a, b: np.where(a >= b, a.dtype.type(0), a + a.dtype.type(1)),
    "dec": lambda a, b: np.where((a == 0) | (a > b), b, a - a.dtype.type(1)),
    "min": np.minimum,
    "max": np.maximum,
}


def _update(form: Form, site: Site, operands: int) -> Callable[["Group"], np.ndarray]:
    """Make the read-modify-write; it gives the values that each thread found."""
    if form.operation not in _ALLOWED[form.type].split():
        raise UnsupportedInstructionError(
            site.line,
            f"{site.instruction.name}: .{form.type} has {_ALLOWED[form.type]}, not {form.operation}",
        )
    dtype, compares = DTYPES[form.type], form.operation == "cas"
    first = len(site.operands) - operands
    space = form.space.removesuffix("::cta")
    read, offset = address_of(site, site.operands[first], space)
    sources = [site.read(o, form.type, exact=False) for o in site.operands[first + 1 :]]
    port = Port(site.pc, space, dtype.itemsize, polls=True)

    def change(memory: np.ndarray, values: list[np.ndarray]) -> np.ndarray:
        found = memory.view(dtype)
        if compares:
            return as_storage(np.where(found == values[0], values[1], found), memory.dtype)
        return as_storage(_NEW[form.operation](found, values[0]), memory.dtype)

    def step(group: "Group") -> np.ndarray:
        address = np.broadcast_to(absolute(read(group), offset), group.shape)
        values = [np.broadcast_to(source(group), group.shape) for source in sources]
        return port.update(group, address, group.mask, change, values)

    return step


@executes("atom.<order?>.<scope?>.<space?>.<operation>.<type>", f"{SECTION}: atom",
          operation=_OPERATIONS, **_CHOICES)  # fmt: skip
@executes("atom.<space>.<scope>.<operation>.<type>", f"{SECTION}: atom",
          operation=_OPERATIONS, **_WITHOUT_ORDER)  # fmt: skip
@executes("atom.<operation>.<order>.<scope>.<space?>.<type>", f"{SECTION}: atom",
          operation=_OPERATIONS, **_CHOICES)  # fmt: skip
def atom(form: Form, site: Site) -> Step:
    """`d` = memory at the address, which becomes what the operation makes of it and b; cas: c if it is b."""
    operands = 3 if form.operation == "cas" else 2
    site.expect(operands + 1)
    update = _update(form, site, operands)
    write, kept = site.write(site.operands[0], form.type, exact=False), storage(form.type)
    dtype = DTYPES[form.type]
    return ordered(form, lambda group: write(group, update(group).astype(kept, copy=False).view(dtype)))


@executes("red.<order?>.<scope?>.<space?>.<operation>.<type>", f"{SECTION}: red",
          operation="and or xor add inc dec min max", **_CHOICES)  # fmt: skip
@executes("red.<space>.<scope>.<operation>.<type>", f"{SECTION}: red",
          operation="and or xor add inc dec min max", **_WITHOUT_ORDER)  # fmt: skip
@executes("red.<operation>.<order>.<scope>.<space?>.<type>", f"{SECTION}: red",
          operation="and or xor add inc dec min max", **_CHOICES)  # fmt: skip
def red(form: Form, site: Site) -> Step:
    """Memory at the address becomes what the operation makes of it and b."""
    site.expect(2)
    update = _update(form, site, 2)

    def step(group: "Group") -> None:
        update(group)

    return ordered(form, step)
