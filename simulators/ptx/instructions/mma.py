"""mma and ldmatrix: tensor-core instructions on fragments whose layout the manual fixes."""

from types import SimpleNamespace as Form
from typing import TYPE_CHECKING

import numpy as np

from simulators.ptx.access import Port, absolute, address_of
from simulators.ptx.forms import Site, Step, executes
from simulators.ptx.fragments import Tile
from simulators.ptx.syntax import Vector
from simulators.ptx.tensor import multiply_accumulate, whole_warps

if TYPE_CHECKING:
    from simulators.ptx.group import Group

SECTION = "Warp Level Matrix Multiply-Accumulate Instructions"

# The manual's table: the shapes (m, n, k) of integer mma by the kind of the multiplicands.
MMA_SHAPES = {
    "8": {"m8n8k16": (8, 8, 16), "m16n8k16": (16, 8, 16), "m16n8k32": (16, 8, 32)},
    "4": {"m8n8k32": (8, 8, 32), "m16n8k32": (16, 8, 32), "m16n8k64": (16, 8, 64)},
    "b1": {"m8n8k128": (8, 8, 128), "m16n8k128": (16, 8, 128), "m16n8k256": (16, 8, 256)},
}


def _tiles(shape: tuple[int, int, int], atype: str, btype: str) -> tuple[Tile, Tile, Tile, Tile]:
    m, n, k = shape
    accumulator = Tile(m, n, "s32", fixed=True)
    return accumulator, Tile(m, k, atype, fixed=True), Tile(n, k, btype, fixed=True), accumulator


@executes(
    "mma.sync.aligned.<shape>.row.col.<satfinite?>.s32.<atype>.<btype>.s32", f"{SECTION}: mma",
    shape=" ".join(MMA_SHAPES["8"]), satfinite="satfinite", atype="s8 u8", btype="s8 u8",
)  # fmt: skip
def mma_bytes(form: Form, site: Site) -> Step:
    """`d` = A * B + C of bytes, each signed or not; wrapping, or with .satfinite clamped to int32."""
    tiles = _tiles(MMA_SHAPES["8"][form.shape], form.atype, form.btype)
    return multiply_accumulate(site, tiles, saturate=bool(form.satfinite))


@executes(
    "mma.sync.aligned.<shape>.row.col.<satfinite?>.s32.<atype>.<btype>.s32", f"{SECTION}: mma",
    shape=" ".join(MMA_SHAPES["4"]), satfinite="satfinite", atype="s4 u4", btype="s4 u4",
)  # fmt: skip
def mma_nibbles(form: Form, site: Site) -> Step:
    """`d` = A * B + C of 4-bit elements, each signed or not; wrapping, or with .satfinite clamped."""
    tiles = _tiles(MMA_SHAPES["4"][form.shape], form.atype, form.btype)
    return multiply_accumulate(site, tiles, saturate=bool(form.satfinite))


@executes(
    "mma.sync.aligned.<shape>.row.col.s32.b1.b1.s32.<operation>.popc", f"{SECTION}: mma",
    shape=" ".join(MMA_SHAPES["b1"]), operation="xor and",
)  # fmt: skip
def mma_bits(form: Form, site: Site) -> Step:
    """`d` = C + the number of ones in (row of A .xor or .and column of B); wrapping."""
    return multiply_accumulate(site, _tiles(MMA_SHAPES["b1"][form.shape], "b1", "b1"), binary=form.operation)


@executes(
    "ldmatrix.sync.aligned.m8n8.<count>.<trans?>.<space?>.b16", f"{SECTION}: ldmatrix",
    count="x1 x2 x4", trans="trans", space="shared shared::cta",
)  # fmt: skip
def ldmatrix(form: Form, site: Site) -> Step:
    """`d` = 8 by 8 matrices of 16-bit items, the rows of matrix i at addresses of lanes 8 i to 8 i + 7."""
    site.expect(2)
    count = int(form.count[1:])
    target = site.operands[0]
    items = target.items if isinstance(target, Vector) else (target,)
    if len(items) != count:
        raise site.fail(f"takes {count} registers, not {len(items)}")
    writers = [site.write(o, "b32") for o in items]
    space = form.space.removesuffix("::cta")
    read, offset = address_of(site, site.operands[1], space)
    port = Port(site.pc, space, 16, items_per_warp=8 * count)

    def addresses(base: np.ndarray) -> np.ndarray:
        lanes = np.broadcast_to(base, (*base.shape[:2], 32))
        return absolute(lanes[:, :, : 8 * count], offset)

    def step(group: "Group") -> None:
        base = read(group)
        key = (base, group.mask)
        rows = np.ascontiguousarray(port.load(group, key, lambda: addresses(base), whole_warps(group)))
        words = rows.view(np.uint32).reshape(*rows.shape[:2], count, 32)
        if form.trans:
            halves = words.view(np.uint16).reshape(*rows.shape[:2], count, 8, 8).swapaxes(3, 4)
            words = np.ascontiguousarray(halves).view(np.uint32).reshape(*rows.shape[:2], count, 32)
        for index, write in enumerate(writers):
            write(group, words[:, :, index])

    return step
