"""`bitexact.batch_matmul`: products of integer matrices, one for each place of a batch, on packed tensors."""

from __future__ import annotations

from tvm import relax
from tvm.ir import Call, Expr

from bench.layout import Layout, logical_shape
from bench.operators.operands import operand_shape
from bench.operators.registration import call, register

DATA_LAYOUT = "BNC"


def batch_matmul(
    data: Expr, weight: Expr, *, weight_layout: str = "BNK", data_dtype: str = "", weight_dtype: str = ""
) -> Call:
    """Build `out[b, n, u] = Σ data[b, n, k] · weight[b, u, k]` with int32 accumulators, wrapped mod 2^32.

    Data and output are (B, N, C). `weight_layout` (`bench.layout`) has the axes B, N (its units) and K (what
    is summed over), for instance BNK32n16k; the output has all its units, padding included. With `data_dtype`
    or `weight_dtype` "int4" or "uint4" that operand is int32 words of eight values along its last dimension
    (`bench.int4`). ValueError names what does not fit.
    """
    return call(
        _OPERATOR,
        [data, weight],
        weight_layout=weight_layout,
        data_dtype=data_dtype,
        weight_dtype=weight_dtype,
    )


def _infer(expression: Call) -> relax.TensorType:
    data, weight = expression.args
    layout = Layout.parse(str(expression.attrs["weight_layout"]))
    if sorted(layout.axes) != ["B", "K", "N"]:
        raise ValueError(
            f"bitexact.batch_matmul: weight_layout {layout.text!r} must have the axes B, N and K"
        )
    rows = logical_shape(DATA_LAYOUT, operand_shape(expression, "data", data))
    units = logical_shape(layout, operand_shape(expression, "weight", weight))
    if (rows["B"], rows["C"]) != (units["B"], units["K"]):
        raise ValueError(
            f"bitexact.batch_matmul: data of {rows['B']} products that sum over {rows['C']} meets "
            f"a weight of {units['B']} that sum over {units['K']} ({layout.text})"
        )
    return relax.TensorType([rows["B"], rows["N"], units["N"]], "int32")


_OPERATOR = register(
    "bitexact.batch_matmul",
    "Integer matrix products of packed tensors, one for each place of a batch.",
    arguments=("data", "weight"),
    infer=_infer,
)
