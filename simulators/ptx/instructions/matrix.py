"""Integer tensor-core instructions on fragments."""

from types import SimpleNamespace as Form
from typing import TYPE_CHECKING

import numpy as np

from simulators.ptx.errors import UnsupportedInstructionError
from simulators.ptx.forms import Site, Step, executes
from simulators.ptx.fragments import ELEMENT_BITS, Tile, read_fragment, write_fragment
from simulators.ptx.instructions.movement import address_of, resolve
from simulators.ptx.memory import SHARED_BASE, SHARED_WINDOW, Access, item_dtype
from simulators.ptx.syntax import Operand, Register, Vector

if TYPE_CHECKING:
    from simulators.ptx.group import Group

SECTION = "Warp Level Matrix Multiply-Accumulate Instructions"

# The manual's table: the shapes of integer wmma by the type of the multiplicands.
WMMA_SHAPES = {
    "s8": {"m16n16k16": (16, 16, 16), "m8n32k16": (8, 32, 16), "m32n8k16": (32, 8, 16)},
    "s4": {"m8n8k32": (8, 8, 32)},
}
WMMA_SHAPES |= {"u8": WMMA_SHAPES["s8"], "u4": WMMA_SHAPES["s4"]}
_SHAPES = "m16n16k16 m8n32k16 m32n8k16 m8n8k32"
_INT32 = np.iinfo(np.int32)


def _shape(site: Site, shape: str, type_: str) -> tuple[int, int, int]:
    shapes = WMMA_SHAPES[type_]
    if shape not in shapes:
        raise UnsupportedInstructionError(
            site.line, f"{site.instruction.name}: .{type_} has the shapes {', '.join(shapes)}, not {shape}"
        )
    return shapes[shape]


def _tile(site: Site, matrix: str, shape: str, type_: str) -> Tile:
    if matrix in "cd":
        of = "s4" if shape == "m8n8k32" else "s8"
        m, n, _ = _shape(site, shape, of)
        return Tile(m, n, type_)
    m, n, k = _shape(site, shape, type_)
    return Tile(m if matrix == "a" else n, k, type_)


def _slots(site: Site, operand: Operand, tile: Tile) -> tuple[int, ...]:
    """Take the registers of a fragment; their number is the tile's."""
    items = operand.items if isinstance(operand, Vector) else (operand,)
    slots = tuple(o.slot for o in items if isinstance(o, Register) and o.type in ("b32", "u32", "s32"))
    if len(slots) != len(items) or len(slots) != tile.registers:
        raise site.fail(
            f"a {tile.rows} by {tile.columns} fragment of .{tile.type} "
            f"takes {tile.registers} 32-bit registers"
        )
    return slots


def _whole_warps(group: "Group") -> np.ndarray | None:
    """Mask the warps that run, (blocks, warps, 1); a warp that is divided is a finding."""
    if group.mask is None:
        return None
    mask = group.everybody()
    some, every = (np.asarray(f(axis=2, keepdims=True)) for f in (mask.any, mask.all))
    divided = some & ~every
    if group.findings.check and divided.any():
        group.findings.note("barrier-divergence", np.broadcast_to(divided, mask.shape) & mask, None, 0, "")
    return some


class _TileAccess:
    """Where a tile lies in memory: `load` and `store` move it for all warps that run."""

    def __init__(
        self, site: Site, tile: Tile, *, by_rows: bool, space: str, address: Operand, stride: Operand | None
    ) -> None:
        # In memory `outer` runs of `inner` elements, each run contiguous; canonical order may be the other
        # one.
        self.outer, self.inner = (tile.rows, tile.columns) if by_rows else (tile.columns, tile.rows)
        self.by_rows = by_rows
        self.bits = ELEMENT_BITS[tile.type]
        self.space = space
        self.pc = site.pc
        self.tile = tile
        # Every run must be aligned to the bytes that one thread holds of the fragment.
        self.alignment = 4 * tile.registers
        self.item = min(16, self.alignment)
        self.read, self.offset = address_of(site, address, space)
        self.stride = site.read(stride, "u32") if stride is not None else None
        self.stride_slot = stride.slot if isinstance(stride, Register) else None

    @property
    def bytes(self) -> int:
        """Bytes of the tile."""
        return self.outer * self.inner * self.bits // 8

    def _addresses(self, group: "Group", base: np.ndarray) -> np.ndarray:
        """Compute the address of each item: (blocks, warps, runs, items of a run)."""
        start = base.astype(np.uint64)[:, :, :1, None] + np.uint64(self.offset & 0xFFFF_FFFF_FFFF_FFFF)
        run = np.arange(self.outer, dtype=np.uint64).reshape(1, 1, -1, 1)
        item = np.arange(0, self.inner * self.bits // 8, self.item, dtype=np.uint64)
        if self.stride is None:
            return start + run * np.uint64(self.inner * self.bits // 8) + item
        stride = self.stride(group)[:, :, :1, None].astype(np.uint64)
        return start + run * (stride * np.uint64(self.bits) // np.uint64(8)) + item

    def resolve(self, group: "Group", every_warp: bool) -> tuple[str, Access]:
        """Find the space and the resolved access."""
        base = self.read(group)
        mask = _whole_warps(group)
        warps = None if mask is None else mask[..., None]
        space = self.space

        def addresses() -> np.ndarray:
            address = self._addresses(group, base)
            if group.findings.check and self.alignment > self.item:
                wrong = (address[..., :1] & np.uint64(self.alignment - 1)) != 0
                if warps is not None:
                    wrong = wrong & warps
                if wrong.any():
                    group.findings.note("misaligned", wrong, address[..., :1], self.bytes, space or "generic")
            if every_warp:
                address = np.broadcast_to(address, (address.shape[0], group.shape[1], *address.shape[2:]))
            return address

        if space:
            # The mask of whole warps is made anew each time; it comes from the group's.
            stride = None if self.stride_slot is None else group.registers[self.stride_slot]
            return space, resolve(
                group,
                self.pc,
                space,
                key=(base, stride, group.mask),
                addresses=addresses,
                size=self.item,
                mask=warps,
            )
        address = addresses()
        space = "shared" if SHARED_BASE <= int(address.flat[0]) < SHARED_BASE + SHARED_WINDOW else "global"
        if space == "shared":
            return space, group.shared.resolve(
                address - np.uint64(SHARED_BASE), self.item, warps, group.findings
            )
        return space, group.memory.resolve(address, self.item, warps, group.findings)

    def load(self, group: "Group") -> np.ndarray:
        """Load the tile's bytes or int32 in canonical order, (blocks, warps, ...)."""
        space, access = self.resolve(group, every_warp=False)
        group.count(f"{space}_load_bytes", group.active_warps() * self.bytes)
        items = group.shared.load(access, group.findings) if space == "shared" else group.memory.load(access)
        items = np.ascontiguousarray(items)
        if self.by_rows:
            return items.reshape(*items.shape[:2], -1)
        dtype = np.dtype(f"u{self.bits // 8}")
        runs = items.view(dtype).reshape(*items.shape[:2], self.outer, self.inner)
        return np.ascontiguousarray(runs.swapaxes(2, 3)).reshape(*items.shape[:2], -1)

    def store(self, group: "Group", tile: np.ndarray) -> None:
        """Store int32 tiles (blocks, warps, rows, columns)."""
        space, access = self.resolve(group, every_warp=True)
        group.count(f"{space}_store_bytes", group.active_warps() * self.bytes)
        runs = np.ascontiguousarray(tile if self.by_rows else tile.swapaxes(2, 3))
        value = runs.view(item_dtype(self.item))
        if space == "shared":
            group.shared.store(access, value, group.findings)
        else:
            group.memory.store(access, value)


@executes(
    "wmma.load.<matrix>.sync.aligned.<layout>.<shape>.<space?>.<type>", f"{SECTION}: wmma.load",
    matrix="a b c", layout="row col", shape=_SHAPES, space="global shared", type="s8 u8 s4 u4 s32",
)  # fmt: skip
def wmma_load(form: Form, site: Site) -> Step:
    """`r` = the fragment of a matrix in memory, whose rows (or columns) are `stride` elements apart."""
    site.expect(2, 3)
    if (form.type == "s32") != (form.matrix == "c"):
        raise UnsupportedInstructionError(
            site.line, f"{site.instruction.name}: matrix {form.matrix} of .{form.type}"
        )
    tile = _tile(site, form.matrix, form.shape, form.type)
    canonical = "col" if form.matrix == "b" else "row"
    if ELEMENT_BITS[form.type] == 4 and form.layout != canonical:
        raise UnsupportedInstructionError(
            site.line, f"{site.instruction.name}: .{form.type} {form.matrix} is {canonical}"
        )
    slots = _slots(site, site.operands[0], tile)
    stride = site.operands[2] if len(site.operands) == 3 else None
    access = _TileAccess(
        site,
        tile,
        by_rows=form.layout == canonical,
        space=form.space,
        address=site.operands[1],
        stride=stride,
    )
    return lambda group: write_fragment(group, slots, access.load(group))


@executes(
    "wmma.store.d.sync.aligned.<layout>.<shape>.<space?>.s32", f"{SECTION}: wmma.store",
    layout="row col", shape=_SHAPES, space="global shared",
)  # fmt: skip
def wmma_store(form: Form, site: Site) -> Step:
    """Memory = the matrix of fragment r, whose rows (or columns) are `stride` elements apart."""
    site.expect(2, 3)
    tile = _tile(site, "d", form.shape, "s32")
    slots = _slots(site, site.operands[1], tile)
    stride = site.operands[2] if len(site.operands) == 3 else None
    access = _TileAccess(
        site, tile, by_rows=form.layout == "row", space=form.space, address=site.operands[0], stride=stride
    )
    return lambda group: access.store(group, read_fragment(group, slots).accumulator(tile))


@executes(
    "wmma.mma.sync.aligned.<alayout>.<blayout>.<shape>.s32.<atype>.<btype>.s32.<satfinite?>",
    f"{SECTION}: wmma.mma",
    alayout="row col", blayout="row col", shape=_SHAPES, atype="s8 u8 s4 u4", btype="s8 u8 s4 u4",
    satfinite="satfinite",
)  # fmt: skip
def wmma_mma(form: Form, site: Site) -> Step:
    """`d` = A * B + C, wrapping, or with .satfinite clamped to int32; A and B are of one type."""
    site.expect(4)
    if form.atype != form.btype:
        raise UnsupportedInstructionError(
            site.line,
            f"{site.instruction.name}: wmma takes A and B of one type, not .{form.atype} and .{form.btype}",
        )
    tiles = [
        _tile(site, matrix, form.shape, type_)
        for matrix, type_ in zip("dabc", ("s32", form.atype, form.btype, "s32"), strict=True)
    ]
    fragments = [_slots(site, operand, tile) for operand, tile in zip(site.operands, tiles, strict=True)]
    return _multiply_accumulate(fragments, tiles, bool(form.satfinite))


def _multiply_accumulate(fragments: list[tuple[int, ...]], tiles: list[Tile], saturate: bool) -> Step:
    """Make the step D = A * B + C for the registers and tiles of D, A, B and C."""
    d, a, b, c = fragments
    _, tile_a, tile_b, tile_c = tiles
    # Every partial sum is an integer below k * 255 * 255 <= 32 * 65025 < 2^24: exact in float32, in any
    # order.
    assert tile_a.columns * 255 * 255 < 1 << 24

    def step(group: "Group") -> None:
        _whole_warps(group)
        rows = read_fragment(group, a).factor(tile_a)
        columns = read_fragment(group, b).factor(tile_b)
        addend = read_fragment(group, c).accumulator(tile_c)
        products = np.matmul(rows, columns.swapaxes(2, 3))
        if saturate:
            total = np.clip(products.astype(np.int64) + addend, _INT32.min, _INT32.max).astype(np.int32)
        else:
            total = products.astype(np.int32) + addend
        write_fragment(group, d, total)

    return step
