"""wmma: tensor-core instructions on fragments whose layout the manual leaves open."""

from collections.abc import Callable
from types import SimpleNamespace as Form
from typing import TYPE_CHECKING

import numpy as np

from simulators.ptx.access import Port, absolute, address_of
from simulators.ptx.errors import UnsupportedInstructionError
from simulators.ptx.forms import Site, Step, executes
from simulators.ptx.fragments import ELEMENT_BITS, Tile, read_fragment, write_fragment
from simulators.ptx.memory import item_dtype
from simulators.ptx.syntax import Operand, Register
from simulators.ptx.tensor import fragment_slots, multiply_accumulate, whole_warps

if TYPE_CHECKING:
    from simulators.ptx.group import Group

SECTION = "Warp Level Matrix Multiply-Accumulate Instructions"

# The manual's table: the shapes of integer wmma by the type of the multiplicands.
WMMA_SHAPES = {
    "s8": {"m16n16k16": (16, 16, 16), "m8n32k16": (8, 32, 16), "m32n8k16": (32, 8, 16)},
    "s4": {"m8n8k32": (8, 8, 32)},
    "b1": {"m8n8k128": (8, 8, 128)},
}
WMMA_SHAPES |= {"u8": WMMA_SHAPES["s8"], "u4": WMMA_SHAPES["s4"]}
_BYTE_SHAPES = "m16n16k16 m8n32k16 m32n8k16 m8n8k32"
_SHAPES = f"{_BYTE_SHAPES} m8n8k128"


def _shape(site: Site, shape: str, type_: str) -> tuple[int, int, int]:
    shapes = WMMA_SHAPES[type_]
    if shape not in shapes:
        raise UnsupportedInstructionError(
            site.line, f"{site.instruction.name}: .{type_} has the shapes {', '.join(shapes)}, not {shape}"
        )
    return shapes[shape]


def _tile(site: Site, matrix: str, shape: str, type_: str) -> Tile:
    if matrix in "cd":
        m, n, _ = next(shapes[shape] for shapes in WMMA_SHAPES.values() if shape in shapes)
        return Tile(m, n, type_)
    m, n, k = _shape(site, shape, type_)
    return Tile(m if matrix == "a" else n, k, type_)


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
        # Every run must be aligned to the bytes that one thread holds of the fragment.
        self.alignment = 4 * tile.registers
        self.item = min(16, self.alignment)
        self.port = Port(
            site.pc, space, self.item, items_per_warp=self.bytes // self.item, arrange=self._served
        )
        self.read, self.offset = address_of(site, address, space)
        self.stride = site.read(stride, "u32") if stride is not None else None
        self.stride_slot = stride.slot if isinstance(stride, Register) else None

    def _served(self, index: np.ndarray) -> np.ndarray:
        """Bring items (blocks, warps, runs, items) into the order in which a warp's accesses go.

        Eight runs of 16 bytes of a multiplicand go together, four of 32 bytes of an accumulator: so the lanes
        lie over a fragment in the layouts that the manual gives for mma.
        """
        side = 32 // self.item
        blocks, warps, runs, items = index.shape
        if self.bits != 32 or items <= side:
            return index
        return index.reshape(blocks, warps, runs // 4, 4, items // side, side).swapaxes(3, 4)

    @property
    def bytes(self) -> int:
        """Bytes of the tile."""
        return self.outer * self.inner * self.bits // 8

    def _addresses(self, group: "Group", base: np.ndarray) -> np.ndarray:
        """Compute the address of each item: (blocks, warps, runs, items of a run)."""
        start = absolute(base[:, :, :1, None], self.offset)
        run = np.arange(self.outer, dtype=np.uint64).reshape(1, 1, -1, 1)
        item = np.arange(0, self.inner * self.bits // 8, self.item, dtype=np.uint64)
        if self.stride is None:
            return start + run * np.uint64(self.inner * self.bits // 8) + item
        stride = self.stride(group)[:, :, :1, None].astype(np.uint64)
        return start + run * (stride * np.uint64(self.bits) // np.uint64(8)) + item

    def _stored(self, group: "Group", base: np.ndarray) -> np.ndarray:
        address = self._addresses(group, base)
        return np.broadcast_to(address, (address.shape[0], group.shape[1], *address.shape[2:]))

    def _check_runs(self, group: "Group", address: np.ndarray, warps: np.ndarray | None) -> None:
        """Find runs that are not aligned as the fragment wants; items may be narrower than that."""
        if not group.findings.check or self.alignment <= self.item:
            return
        wrong = (address[..., :1] & np.uint64(self.alignment - 1)) != 0
        if warps is not None:
            wrong = wrong & warps
        if wrong.any():
            space = self.port.space or "generic"
            group.findings.note("misaligned", wrong, address[..., :1], self.bytes, space)

    def _prepared(
        self, group: "Group", place: Callable[["Group", np.ndarray], np.ndarray]
    ) -> tuple[tuple, Callable[[], np.ndarray], np.ndarray | None]:
        """Give what a port wants: what the addresses come from, the addresses, and which warps run."""
        base = self.read(group)
        mask = whole_warps(group)
        warps = None if mask is None else mask[..., None]
        stride = None if self.stride_slot is None else group.registers[self.stride_slot]

        def addresses() -> np.ndarray:
            address = place(group, base)
            self._check_runs(group, address, warps)
            return address

        # The mask of whole warps is made anew each time; it comes from the group's.
        return (base, stride, group.mask), addresses, warps

    def load(self, group: "Group") -> np.ndarray:
        """Load the tile's bytes or int32 in canonical order, (blocks, warps, ...)."""
        key, addresses, warps = self._prepared(group, self._addresses)
        items = np.ascontiguousarray(self.port.load(group, key, addresses, warps))
        if self.by_rows:
            return items.reshape(*items.shape[:2], -1)
        dtype = np.dtype(f"u{self.bits // 8}")
        runs = items.view(dtype).reshape(*items.shape[:2], self.outer, self.inner)
        return np.ascontiguousarray(runs.swapaxes(2, 3)).reshape(*items.shape[:2], -1)

    def store(self, group: "Group", tile: np.ndarray) -> None:
        """Store int32 tiles (blocks, warps, rows, columns)."""
        key, addresses, warps = self._prepared(group, self._stored)
        runs = np.ascontiguousarray(tile if self.by_rows else tile.swapaxes(2, 3))
        self.port.store(group, key, addresses, warps, runs.view(item_dtype(self.item)))


@executes(
    "wmma.load.<matrix>.sync.aligned.<layout>.<shape>.<space?>.<type>", f"{SECTION}: wmma.load",
    matrix="a b c", layout="row col", shape=_SHAPES, space="global shared", type="s8 u8 s4 u4 b1 s32",
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
    if ELEMENT_BITS[form.type] < 8 and form.layout != canonical:
        raise UnsupportedInstructionError(
            site.line, f"{site.instruction.name}: .{form.type} {form.matrix} is {canonical}"
        )
    slots = fragment_slots(site, site.operands[0], tile)
    stride = site.operands[2] if len(site.operands) == 3 else None
    access = _TileAccess(
        site,
        tile,
        by_rows=form.layout == canonical,
        space=form.space,
        address=site.operands[1],
        stride=stride,
    )
    return lambda group: write_fragment(group, slots, access.load(group), tile)


@executes(
    "wmma.store.d.sync.aligned.<layout>.<shape>.<space?>.s32", f"{SECTION}: wmma.store",
    layout="row col", shape=_SHAPES, space="global shared",
)  # fmt: skip
def wmma_store(form: Form, site: Site) -> Step:
    """Memory = the matrix of fragment r, whose rows (or columns) are `stride` elements apart."""
    site.expect(2, 3)
    tile = _tile(site, "d", form.shape, "s32")
    slots = fragment_slots(site, site.operands[1], tile)
    stride = site.operands[2] if len(site.operands) == 3 else None
    access = _TileAccess(
        site, tile, by_rows=form.layout == "row", space=form.space, address=site.operands[0], stride=stride
    )
    return lambda group: access.store(group, read_fragment(group, slots).accumulator(tile))


@executes(
    "wmma.mma.sync.aligned.<alayout>.<blayout>.<shape>.s32.<atype>.<btype>.s32.<satfinite?>",
    f"{SECTION}: wmma.mma",
    alayout="row col", blayout="row col", shape=_BYTE_SHAPES, atype="s8 u8 s4 u4", btype="s8 u8 s4 u4",
    satfinite="satfinite",
)  # fmt: skip
def wmma_mma(form: Form, site: Site) -> Step:
    """`d` = A * B + C, wrapping, or with .satfinite clamped to int32; A and B are of one type."""
    if form.atype != form.btype:
        raise UnsupportedInstructionError(
            site.line,
            f"{site.instruction.name}: wmma takes A and B of one type, not .{form.atype} and .{form.btype}",
        )
    return multiply_accumulate(site, _tiles(form, site), saturate=bool(form.satfinite))


@executes(
    "wmma.mma.<operation>.popc.sync.aligned.row.col.<shape>.s32.<atype>.<btype>.s32",
    f"{SECTION}: wmma.mma", operation="xor and", shape="m8n8k128", atype="b1", btype="b1",
)  # fmt: skip
def wmma_mma_b1(form: Form, site: Site) -> Step:
    """`d` = C + the number of ones in (row of A .xor or .and column of B); wrapping."""
    return multiply_accumulate(site, _tiles(form, site), binary=form.operation)


def _tiles(form: Form, site: Site) -> tuple[Tile, Tile, Tile, Tile]:
    d, a, b, c = (
        _tile(site, matrix, form.shape, type_)
        for matrix, type_ in zip("dabc", ("s32", form.atype, form.btype, "s32"), strict=True)
    )
    return d, a, b, c
