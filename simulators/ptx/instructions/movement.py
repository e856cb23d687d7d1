"""mov, loads and stores, and the conversion of addresses."""

from collections.abc import Callable
from types import SimpleNamespace as Form
from typing import TYPE_CHECKING

import numpy as np

from simulators.ptx.access import Port, absolute, address_of, all_lanes
from simulators.ptx.forms import Reader, Site, Step, computes, executes, ordered
from simulators.ptx.memory import LOCAL_BASE, SHARED_BASE, item_dtype
from simulators.ptx.syntax import Address, Operand, Register, Sink, Symbol, Vector
from simulators.ptx.types import DTYPES, as_storage, storage

if TYPE_CHECKING:
    from simulators.ptx.group import Group

SECTION = "Data Movement and Conversion Instructions"
SCALARS = "b8 u8 s8 b16 u16 s16 b32 u32 s32 b64 u64 s64 f32 f64"
_RAW = {1: "b8", 2: "b16", 4: "b32", 8: "b64"}


@executes("mov.<type>", f"{SECTION}: mov", type="pred b16 u16 s16 b32 u32 s32 b64 u64 s64 f32 f64")
def mov(form: Form, site: Site) -> Step:
    """`d` = a; a {vector} packs its registers into d, lowest first, or unpacks a."""
    site.expect(2)
    target, source = site.operands
    if isinstance(target, Vector):
        return _unpack(form, site, target)
    if isinstance(source, Vector):
        return _pack(form, site, source)
    write = site.write(target, form.type)
    bits = "pred" if form.type == "pred" else _RAW[DTYPES[form.type].itemsize]
    read = site.read(source, bits)
    if not isinstance(source, Register):
        return lambda group: write(group, read(group))
    to, of = site.destination(target).slot, source.slot

    def step(group: "Group") -> None:
        write(group, read(group))
        # What is known of a fragment's registers follows them.
        if of in group.fragments:
            group.fragments[to] = group.fragments[of]

    return step


def _pack(form: Form, site: Site, source: Vector) -> Step:
    whole = storage(form.type)
    part = _RAW[whole.itemsize // len(source.items)]
    readers = [site.read(o, part) for o in source.items]
    write = site.write(site.operands[0], form.type)

    def step(group: "Group") -> None:
        stacked = np.stack(np.broadcast_arrays(*[read(group) for read in readers]), axis=-1)
        write(group, stacked.view(whole)[..., 0])

    return step


def _unpack(form: Form, site: Site, target: Vector) -> Step:
    half = _RAW[storage(form.type).itemsize // len(target.items)]
    part = storage(half)
    read = site.read(site.operands[1], form.type)
    writers = [None if isinstance(o, Sink) else site.write(o, half) for o in target.items]

    def step(group: "Group") -> None:
        whole = np.ascontiguousarray(read(group))
        parts = whole.view(part).reshape(*whole.shape, len(writers))
        for index, write in enumerate(writers):
            if write is not None:
                write(group, parts[..., index])

    return step


# Where a space begins among generic addresses; global and constant memory are there as they are.
_BASES = {"shared": np.uint64(SHARED_BASE), "local": np.uint64(LOCAL_BASE)}


@computes("cvta.to.<space>.<type>", f"{SECTION}: cvta", space="global shared local const param", type="u64")
def cvta_to(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = the address in its space that the generic address a stands for."""
    return a - _BASES[form.space] if form.space in _BASES else a


@computes("cvta.<space>.<type>", f"{SECTION}: cvta", space="global shared local const param", type="u64")
def cvta(form: Form, a: np.ndarray) -> np.ndarray:
    """`d` = the generic address of address a of that space."""
    return a + _BASES[form.space] if form.space in _BASES else a


@executes("ld.param.<vector?>.<type>", f"{SECTION}: ld", vector="v2 v4", type=SCALARS)
def ld_param(form: Form, site: Site) -> Step:
    """`d` = the kernel's parameter, the function's argument, or the result of a call."""
    site.expect(2)
    source = site.operands[1]
    name = source.base.name if isinstance(source, Address) and isinstance(source.base, Symbol) else ""
    if site.symbols.get(name, ("",))[0] == "local":
        return _load(form, site, "local", polls=False)
    if isinstance(source, Address) and isinstance(source.base, Register):
        # A structure that is indexed lies in memory, as constants do.
        return _load(form, site, "const", polls=False)
    if name not in site.parameters:
        raise site.fail(f"no parameter {name or source}")
    count, targets = _vector(form, site, site.operands[0])
    dtype = DTYPES[form.type]
    first, end = source.offset, source.offset + count * dtype.itemsize  # type: ignore[union-attr]
    if first < 0 or end > site.parameters[name].size:
        raise site.fail(
            f"bytes {first} to {end - 1} of parameter {name}, which has {site.parameters[name].size}"
        )
    writers = [None if isinstance(o, Sink) else site.write(o, form.type, exact=False) for o in targets]

    def step(group: "Group") -> None:
        items = group.parameters[name][first:end].view(dtype).reshape(-1, 1, 1, 1)
        for write, item in zip(writers, items, strict=True):
            if write is not None:
                write(group, item)

    return step


@executes("st.param.<vector?>.<type>", f"{SECTION}: st", vector="v2 v4", type=SCALARS)
def st_param(form: Form, site: Site) -> Step:
    """An argument of a call, or a function's result = b."""
    site.expect(2)
    return _store(form, site, "local", polls=False)


_EVICT = "L1::evict_normal L1::evict_unchanged L1::evict_first L1::evict_last L1::no_allocate"
_SCOPE = "cta cluster gpu sys"


@executes(
    "ld.<order?>.<scope?>.<space?>.<cache?>.<nc?>.<evict?>.<prefetch?>.<vector?>.<type>",
    f"{SECTION}: ld, ld.global.nc",
    order="weak volatile relaxed acquire", scope=_SCOPE, space="global shared local const", nc="nc",
    cache="ca cg cs lu cv", evict=_EVICT, prefetch="L2::64B L2::128B L2::256B", vector="v2 v4", type=SCALARS,
)  # fmt: skip
def ld(form: Form, site: Site) -> Step:
    """`d` = memory at the address; with .v2 and .v4 d is a vector. Cache hints change nothing."""
    site.expect(2)
    return ordered(form, _load(form, site, form.space, polls=form.order not in ("", "weak")))


def _load(form: Form, site: Site, space: str, *, polls: bool) -> Step:
    count, targets = _vector(form, site, site.operands[0])
    dtype = DTYPES[form.type]
    size = _checked_size(site, count * dtype.itemsize)
    writers = [None if isinstance(o, Sink) else site.write(o, form.type, exact=False) for o in targets]
    load = _loader(Port(site.pc, space, size, polls=polls), address_of(site, site.operands[1], space))

    def scalar(group: "Group") -> None:
        value = load(group)
        if writers[0] is not None:
            writers[0](group, value.view(dtype))

    def vector(group: "Group") -> None:
        value = load(group)
        items = np.ascontiguousarray(value).view(dtype).reshape(*value.shape, count)
        for index, write in enumerate(writers):
            if write is not None:
                write(group, items[..., index])

    return scalar if count == 1 else vector


@executes(
    "st.<order?>.<scope?>.<space?>.<cache?>.<evict?>.<vector?>.<type>", f"{SECTION}: st",
    order="weak volatile relaxed release", scope=_SCOPE, space="global shared local", cache="wb cg cs wt",
    evict=_EVICT, vector="v2 v4", type=SCALARS,
)  # fmt: skip
def st(form: Form, site: Site) -> Step:
    """Memory at the address = b; with .v2 and .v4 b is a vector. Cache hints change nothing."""
    site.expect(2)
    return ordered(form, _store(form, site, form.space, polls=form.order not in ("", "weak")))


def _store(form: Form, site: Site, space: str, *, polls: bool) -> Step:
    count, sources = _vector(form, site, site.operands[1])
    kept = storage(form.type)
    size = _checked_size(site, count * DTYPES[form.type].itemsize)
    item = item_dtype(size)
    readers = [site.read(o, form.type, exact=False) for o in sources]
    locate = address_of(site, site.operands[0], space)

    def value_of(group: "Group") -> np.ndarray:
        values = [as_storage(read(group), kept) for read in readers]
        if count == 1:
            return values[0]
        return np.stack(np.broadcast_arrays(*values), axis=-1).view(item)[..., 0]

    return _storer(Port(site.pc, space, size, polls=polls), locate, value_of)


def _vector(form: Form, site: Site, operand: Operand) -> tuple[int, tuple[Operand, ...]]:
    count = int(form.vector[1:]) if form.vector else 1
    items = operand.items if isinstance(operand, Vector) else (operand,)
    if len(items) != count:
        raise site.fail(f"takes {count} registers, not {len(items)}")
    return count, items


def _checked_size(site: Site, size: int) -> int:
    if size > 16:
        raise site.fail(f"accesses {size} bytes; at most 16 are possible")
    return size


def _loader(port: Port, locate: tuple[Reader, int]) -> Reader:
    read, offset = locate

    def load(group: "Group") -> np.ndarray:
        base = read(group)
        return port.load(group, (base, group.mask), lambda: absolute(base, offset), group.mask)

    return load


def _storer(port: Port, locate: tuple[Reader, int], value_of: Callable[["Group"], np.ndarray]) -> Step:
    read, offset = locate

    def store(group: "Group") -> None:
        base = read(group)
        port.store(
            group, (base, group.mask), lambda: all_lanes(group, absolute(base, offset)), group.mask,
            value_of(group),
        )  # fmt: skip

    return store
