"""What a tensor core does to whole matrices, for wmma and mma alike."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from simulators.ptx.forms import Site, Step
from simulators.ptx.fragments import Tile, read_fragment, write_fragment
from simulators.ptx.syntax import Operand, Register, Vector

if TYPE_CHECKING:
    from simulators.ptx.group import Group

_INT32 = np.iinfo(np.int32)
_LARGEST = {"s8": 128, "u8": 255, "s4": 8, "u4": 15, "b1": 1}


def fragment_slots(site: Site, operand: Operand, tile: Tile) -> tuple[int, ...]:
    """Take the registers of a fragment; their number is the tile's."""
    items = operand.items if isinstance(operand, Vector) else (operand,)
    slots = tuple(o.slot for o in items if isinstance(o, Register) and o.type in ("b32", "u32", "s32"))
    if len(slots) != len(items) or len(slots) != tile.registers:
        raise site.fail(
            f"a {tile.rows} by {tile.columns} fragment of .{tile.type} "
            f"takes {tile.registers} 32-bit registers"
        )
    return slots


def whole_warps(group: "Group") -> np.ndarray | None:
    """Mask the warps that run, (blocks, warps, 1); a warp that is divided is a finding."""
    if group.mask is None:
        return None
    mask = group.everybody()
    some, every = (np.asarray(f(axis=2, keepdims=True)) for f in (mask.any, mask.all))
    divided = some & ~every
    if group.findings.check and divided.any():
        group.findings.note("barrier-divergence", np.broadcast_to(divided, mask.shape) & mask, None, 0, "")
    return some


def multiply_accumulate(
    site: Site, tiles: tuple[Tile, Tile, Tile, Tile], *, saturate: bool = False, binary: str = ""
) -> Step:
    """Make the step D = A * B + C for the tiles of D, A, B and C, the operands in that order.

    `binary` is "and" or "xor" for single bits: then the product of a row and a column is the number of ones
    in their conjunction or their difference.
    """
    site.expect(4)
    d, a, b, c = (fragment_slots(site, o, t) for o, t in zip(site.operands, tiles, strict=True))
    tile_d, tile_a, tile_b, tile_c = tiles
    # Every partial sum is an integer below 2^24 in magnitude: exact in float32, in any order.
    assert tile_a.columns * _LARGEST[tile_a.type] * _LARGEST[tile_b.type] < 1 << 24
    product: Callable[[np.ndarray, np.ndarray], np.ndarray] = _differing if binary == "xor" else _products

    def step(group: "Group") -> None:
        whole_warps(group)
        rows = read_fragment(group, a).factor(tile_a)
        columns = read_fragment(group, b).right_factor(tile_b)
        addend = read_fragment(group, c).accumulator(tile_c)
        products = product(rows, columns)
        if saturate:
            total = np.clip(products.astype(np.int64) + addend, _INT32.min, _INT32.max).astype(np.int32)
        else:
            total = products.astype(np.int32)
            total = np.add(total, addend, out=total if addend.size <= total.size else None)
        write_fragment(group, d, total, tile_d)

    return step


def _products(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return np.matmul(rows, columns)


def _differing(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Count the bits in which rows and columns differ: the ones of both, less twice the ones they share."""
    ones = rows.sum(axis=3)[:, :, :, None] + columns.sum(axis=2)[:, :, None, :]
    return ones - 2 * _products(rows, columns)
