"""Exchange within a warp."""

from types import SimpleNamespace as Form
from typing import TYPE_CHECKING

import numpy as np

from simulators.ptx.forms import Site, Step, executes
from simulators.ptx.syntax import Pair, Sink

if TYPE_CHECKING:
    from simulators.ptx.group import Group

SECTION = "Parallel Synchronization and Communication Instructions"


@executes(
    "shfl.sync.<mode>.b32", "Data Movement and Conversion Instructions: shfl.sync", mode="up down bfly idx"
)
def shfl(form: Form, site: Site) -> Step:
    """`d` = a of the lane that mode and b name, one's own where that is out of the segment; p = it was in."""
    site.expect(5)
    target = site.operands[0]
    result, valid = (target.first, target.second) if isinstance(target, Pair) else (target, Sink())
    write = site.write(result, "b32")
    write_valid = None if isinstance(valid, Sink) else site.write(valid, "pred")
    a, b, c, _ = (site.read(o, "b32") for o in site.operands[1:])
    lane = np.arange(32, dtype=np.int64).reshape(1, 1, 32)

    def step(group: "Group") -> None:
        value, shift, clamp = a(group), b(group).astype(np.int64) & 31, c(group).astype(np.int64)
        segment = clamp >> 8 & 31
        limit = (lane & segment) | (clamp & 31 & ~segment)
        if form.mode == "up":
            source = lane - shift
            inside = source >= limit
        elif form.mode == "down":
            source = lane + shift
            inside = source <= limit
        elif form.mode == "bfly":
            source = lane ^ shift
            inside = source <= limit
        else:
            source = (lane & segment) | (shift & ~segment)
            inside = source <= limit
        source = np.where(inside, source, lane)
        full = np.broadcast_to(value, (value.shape[0], value.shape[1], 32))
        shape = np.broadcast_shapes(full.shape, source.shape)
        moved = np.take_along_axis(np.broadcast_to(full, shape), np.broadcast_to(source, shape), axis=2)
        write(group, moved)
        if write_valid is not None:
            write_valid(group, inside)

    return step


@executes("activemask.b32", f"{SECTION}: activemask")
def activemask(form: Form, site: Site) -> Step:
    """`d` = one bit for each lane of the warp that runs this instruction."""
    site.expect(1)
    write = site.write(site.operands[0], "b32")
    bit = np.uint32(1) << np.arange(32, dtype=np.uint32)

    def step(group: "Group") -> None:
        write(
            group, np.where(group.everybody(), bit, np.uint32(0)).sum(axis=2, keepdims=True, dtype=np.uint32)
        )

    return step


@executes("vote.sync.<mode>.<type>", f"{SECTION}: vote.sync",
          mode="any all uni ballot", type="pred b32")  # fmt: skip
def vote(form: Form, site: Site) -> Step:
    """`d` = whether any, all or none-or-all of the running threads' a hold; .ballot: one bit for each."""
    site.expect(3)
    if (form.mode == "ballot") != (form.type == "b32"):
        raise site.fail(".ballot gives .b32, the other modes .pred")
    write = site.write(site.operands[0], form.type)
    a, _ = site.read(site.operands[1], "pred"), site.read(site.operands[2], "b32")
    bit = np.uint32(1) << np.arange(32, dtype=np.uint32)

    def step(group: "Group") -> None:
        running = group.everybody()
        holds = np.broadcast_to(a(group), group.shape) & running
        if form.mode == "ballot":
            write(group, np.where(holds, bit, np.uint32(0)).sum(axis=2, keepdims=True, dtype=np.uint32))
            return
        some, every = holds.any(axis=2, keepdims=True), (holds | ~running).all(axis=2, keepdims=True)
        write(group, {"any": some, "all": every, "uni": every | ~some}[form.mode])

    return step


def _same(value: np.ndarray, running: np.ndarray) -> np.ndarray:
    """For each lane one bit for every running lane of its warp that has the same value."""
    full = np.broadcast_to(value, running.shape)
    equal = (full[..., :, None] == full[..., None, :]) & running[..., None, :]
    bit = np.uint32(1) << np.arange(32, dtype=np.uint32)
    return np.where(equal, bit, np.uint32(0)).sum(axis=3, dtype=np.uint32)


@executes("match.<mode>.sync.<type>", f"{SECTION}: match.sync",
          mode="any all", type="b32 b64")  # fmt: skip
def match(form: Form, site: Site) -> Step:
    """`d` = a bit for each running lane whose a is the same; .all: for all if they agree (p), else 0."""
    site.expect(3)
    target = site.operands[0]
    result, agree = (target.first, target.second) if isinstance(target, Pair) else (target, Sink())
    write = site.write(result, "b32")
    write_agree = None if isinstance(agree, Sink) else site.write(agree, "pred")
    a = site.read(site.operands[1], form.type)
    bit = np.uint32(1) << np.arange(32, dtype=np.uint32)

    def step(group: "Group") -> None:
        running = group.everybody()
        same = _same(a(group), running)
        if form.mode == "any":
            write(group, same)
            return
        everybody = np.where(running, bit, np.uint32(0)).sum(axis=2, keepdims=True, dtype=np.uint32)
        holds = ((same == everybody) | ~running).all(axis=2, keepdims=True)
        write(group, np.where(holds, everybody, np.uint32(0)))
        if write_agree is not None:
            write_agree(group, holds)

    return step


_REDUX = {
    "add": (np.add, 0), "min": (np.minimum, None), "max": (np.maximum, None),
    "and": (np.bitwise_and, -1), "or": (np.bitwise_or, 0), "xor": (np.bitwise_xor, 0),
}  # fmt: skip


@executes("redux.sync.<operation>.<type>", f"{SECTION}: redux.sync",
          operation="add min max and or xor", type="u32 s32 b32")  # fmt: skip
def redux(form: Form, site: Site) -> Step:
    """`d` = the running lanes' a, all put together by the operation."""
    site.expect(3)
    if (form.type == "b32") != (form.operation in ("and", "or", "xor")):
        raise site.fail(f".{form.type} has no .{form.operation}")
    write, a = site.write(site.operands[0], form.type), site.read(site.operands[1], form.type)
    function, neutral = _REDUX[form.operation]

    def step(group: "Group") -> None:
        values = np.broadcast_to(a(group), group.shape)
        limits = np.iinfo(values.dtype)
        rest = neutral if neutral is not None else limits.max if form.operation == "min" else limits.min
        kept = np.where(group.everybody(), values, np.array(rest).astype(values.dtype))
        write(group, function.reduce(kept, axis=2, keepdims=True, dtype=values.dtype))

    return step
