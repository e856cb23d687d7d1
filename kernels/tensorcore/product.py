"""The one form in which every layer of this package is described: a product of tiles.

    product[y, x, row, column, i, j] = sum over step, ky, kx, l of
        packed[y * stride + ky * dilation, x * stride + kx * dilation, row, step, i, l]
        * weight[..., column, step, j, l]

`packed` is the padded image, cut into tiles: what a block stages in shared memory. A dense layer is an
image of one place under a kernel of one position; a layer's own module says how `packed` reads its data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import sym, te, tirx
from tvm.s_tir import Schedule

from kernels.tensorcore.intrinsics import Tile, intrinsics
from kernels.tensorcore.operands import is_packed, per_item, unpacked
from kernels.tensorcore.tiling import Extents

# Attributes of a described function, by which its schedule knows the tensor instruction.
TILE, DTYPE = "bitexact.tile", "bitexact.operands"


@dataclass(frozen=True)
class Problem:
    """What is multiplied (in tiles), and by which tensor instruction."""

    extents: Extents
    tile: Tile
    dtype: str

    @property
    def image(self) -> tuple[int, int]:
        """Height and width of the padded image, as far as the kernel reaches."""
        e = self.extents
        height, width = (
            (places - 1) * stride + (kernel - 1) * dilation + 1
            for places, stride, kernel, dilation in zip(
                (e.height, e.width), e.stride, e.kernel, e.dilation, strict=True
            )
        )
        return height, width


def check(tile: Tile, dtype: str, extents: Sequence[tuple[str, int, str]]) -> None:
    """Raise ValueError for an instruction that does not exist, and for extents that the tile does not divide.

    Each extent is its name, its value, and the side of the tile (m, n or k) that has to divide it.
    """
    intrinsics(tile, dtype)
    for what, value, side in extents:
        multiple = getattr(tile, side)
        if value < 1 or value % multiple:
            raise ValueError(f"{what} = {value} is not a positive multiple of {multiple}, as {tile} requires")


def tiled_product(
    problem: Problem,
    *,
    image: Callable[..., tirx.PrimExpr],
    weight: te.Tensor,
    weight_index: Callable[..., tuple[Any, ...]],
) -> te.Tensor:
    """Describe the product of all tiles: (height, width, rows, columns, m, n) int32.

    `image(y, x, row, step, row_inner, item)` gives one item of the padded image, as it is stored;
    `weight` is stored (..., columns, steps, n, k), and `weight_index(y, ky, kx)` gives its first indices.
    """
    e, tile, dtype = problem.extents, problem.tile, problem.dtype
    items = tile.k // per_item(dtype)
    packed = te.compute(
        (*problem.image, e.rows, e.steps, tile.m, items),
        image,
        name="packed",
    )
    a, b = packed, weight
    if is_packed(dtype):
        a = te.compute((*packed.shape[:-1], tile.k), _elements(packed, dtype), name="data_elements")
        b = te.compute((*weight.shape[:-1], tile.k), _elements(weight, dtype), name="weight_elements")
    step = te.reduce_axis((0, e.steps), name="step")
    ky = te.reduce_axis((0, e.kernel[0]), name="ky")
    kx = te.reduce_axis((0, e.kernel[1]), name="kx")
    channel = te.reduce_axis((0, tile.k), name="channel")

    def place(y, x):  # type: ignore[no-untyped-def]
        return y * e.stride[0] + ky * e.dilation[0], x * e.stride[1] + kx * e.dilation[1]

    return te.compute(
        (e.height, e.width, e.rows, e.columns, tile.m, tile.n),
        # The names are those by which `problem_of` finds the loops again.
        lambda y, x, row, column, row_inner, column_inner: te.sum(
            a[(*place(y, x), row, step, row_inner, channel)].astype("int32")
            * b[(*weight_index(y, ky, kx), column, step, column_inner, channel)].astype("int32"),
            axis=[step, ky, kx, channel],
        ),
        name="product",
    )


def _elements(words: te.Tensor, dtype: str) -> Callable[..., tirx.PrimExpr]:
    def element(*index):  # type: ignore[no-untyped-def]
        return unpacked(words[(*index[:-1], index[-1] // per_item(dtype))], index[-1], dtype)

    return element


def described(buffers: list[te.Tensor], *, tile: Tile, dtype: str) -> tirx.PrimFunc:
    """Make the function of a description, with the attributes that its schedule needs."""
    function = te.create_prim_func(buffers)
    return function.with_attrs({TILE: str(tile), DTYPE: dtype})


def problem_of(func: tirx.PrimFunc) -> Problem:
    """Find what a described function multiplies. Raises ValueError for a function of another origin."""
    if TILE not in (func.attrs or {}):
        raise ValueError("the function was not described by conv2d_primfunc, dense_primfunc or their like")
    dtype = str(func.attrs[DTYPE])
    sch = Schedule(func)
    block = sch.get(sch.get_sblock("product"))
    by_name = {var.var.name.removeprefix("v_"): var for var in block.iter_vars}
    size = {name: int(var.dom.extent) for name, var in by_name.items()}
    image = "data_elements" if is_packed(dtype) else "packed"
    region = next(read for read in block.reads if read.source.name == image).region
    y_stride, y_dilation = _linear(region[0].min, by_name["y"].var, by_name["ky"].var)
    x_stride, x_dilation = _linear(region[1].min, by_name["x"].var, by_name["kx"].var)
    return Problem(
        Extents(
            rows=size["row"],
            columns=size["column"],
            steps=size["step"],
            height=size["y"],
            width=size["x"],
            kernel=(size["ky"], size["kx"]),
            stride=(y_stride, x_stride),
            dilation=(y_dilation, x_dilation),
        ),
        Tile.parse(str(func.attrs[TILE])),
        dtype,
    )


def _linear(index: tirx.PrimExpr, place: tirx.Var, kernel: tirx.Var) -> tuple[int, int]:
    stride, dilation, _ = sym.detect_linear_equation(index, [place, kernel])
    return int(stride), int(dilation)
