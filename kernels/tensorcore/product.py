"""The one form in which every layer of this package is described: a product of tiles.

    product[y, x, row, column, i, j] = sum over step, ky, kx, l of
        packed[y * stride + ky * dilation, x * stride + kx * dilation, row, step, i, l]
        * weight[..., column, step, j, l]

`packed` is the padded image, cut into tiles: what a block stages in shared memory. A dense layer is an
image of one place under a kernel of one position; a layer's own module says how `packed` reads its data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import sym, te, tirx
from tvm.s_tir import Schedule

from kernels.tensorcore.epilogue import Epilogue
from kernels.tensorcore.operands import PER_WORD, is_packed, packed_word, per_item, unpacked
from kernels.tensorcore.problem import Extents, Problem
from kernels.tensorcore.tile import Tile, check_supported

# Attributes of a described function, by which its schedule knows the tensor instruction.
TILE, DTYPE, WEIGHT_DTYPE = "bitexact.tile", "bitexact.data", "bitexact.weight"
OUT_DTYPE = "bitexact.out"


def check(tile: Tile, dtypes: tuple[str, str], extents: Sequence[tuple[str, int, str]]) -> None:
    """Raise ValueError for an instruction that does not exist, and for extents that the tile does not divide.

    Each extent is its name, its value, and the side of the tile (m, n or k) that has to divide it.
    """
    check_supported(tile, *dtypes)
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
        b = te.compute(
            (*weight.shape[:-1], tile.k), _elements(weight, problem.weight_dtype), name="weight_elements"
        )
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


def finished(  # type: ignore[no-untyped-def]
    product: te.Tensor, problem: Problem, epilogue: Epilogue, *, place
) -> tuple[te.Tensor, list[te.Tensor]]:
    """Describe the output: the sums, or what the epilogue makes of them; with the operands of the latter.

    `place` is the shape of the output before its last two dimensions, batch and channels.
    """
    tile = problem.tile
    e = problem.extents
    shape = (*place, e.rows * tile.m, e.columns * tile.n)
    operands = epilogue.placeholders(shape)

    def element(*index):  # type: ignore[no-untyped-def]
        *at, b, o = index
        at += [0] * (2 - len(at))
        value = product[(*at, b // tile.m, o // tile.n, b % tile.m, o % tile.n)]
        return epilogue.applied(value, index, operands)

    if not is_packed(problem.out_dtype):
        return te.compute(
            shape, lambda *index: element(*index).astype(problem.out_dtype), name="out"
        ), operands

    def word(*index):  # type: ignore[no-untyped-def]
        lanes = [element(*index[:-1], index[-1] * PER_WORD + lane) for lane in range(PER_WORD)]
        return packed_word(lanes)

    return te.compute((*shape[:-1], shape[-1] // PER_WORD), word, name="out"), operands


def described(buffers: list[te.Tensor], problem: Problem) -> tirx.PrimFunc:
    """Make the function of a description, with the attributes that its schedule needs.

    Raises ValueError for an epilogue that makes the same of every sum: TVM then reads none.
    """
    function = te.create_prim_func(buffers)
    if problem.fused:
        schedule = Schedule(function)
        reads = [read.source.name for read in schedule.get(schedule.get_sblock("out")).reads]
        if "product" not in reads:
            raise ValueError("what follows the layer makes the same of every sum, and does not read it")
    attributes = {TILE: str(problem.tile), DTYPE: problem.dtype, WEIGHT_DTYPE: problem.weight_dtype}
    if problem.fused:
        attributes[OUT_DTYPE] = problem.out_dtype
    return function.with_attrs(attributes)


def problem_of(func: tirx.PrimFunc) -> Problem:
    """Find what a described function multiplies. Raises ValueError for a function of another origin."""
    if TILE not in (func.attrs or {}):
        raise ValueError("the function was not described by conv2d_primfunc, dense_primfunc or their like")
    dtype = str(func.attrs[DTYPE])
    sch = Schedule(func)
    block = sch.get(sch.get_sblock("product"))
    by_name = {var.var.name.removeprefix("v_"): var for var in block.iter_vars}
    size = {name: int(var.dom.extent) for name, var in by_name.items()}
    region, weights = (
        next(read.region for read in block.reads if read.source.name in names)
        for names in (("packed", "data_elements"), ("weight", "weight_elements"))
    )
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
            shared_weights=not weights[0].min.same_as(by_name["y"].var),
        ),
        Tile.parse(str(func.attrs[TILE])),
        dtype,
        str(func.attrs[WEIGHT_DTYPE]),
        out_dtype=str(func.attrs.get(OUT_DTYPE, "int32")),
        fused=OUT_DTYPE in func.attrs,
    )


def _linear(index: tirx.PrimExpr, place: tirx.Var, kernel: tirx.Var) -> tuple[int, int]:
    stride, dilation, _ = sym.detect_linear_equation(index, [place, kernel])
    return int(stride), int(dilation)
