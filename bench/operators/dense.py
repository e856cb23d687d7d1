"""`bitexact.dense`: an integer matrix product on packed tensors described by their layouts."""

from __future__ import annotations

from tvm import relax
from tvm.ir import Call, Expr

from bench.layout import Layout, logical_shape, packed_shape
from bench.operators.operands import operand_shape
from bench.operators.registration import call, register


def dense(
    data: Expr,
    weight: Expr,
    *,
    data_layout: str = "NC",
    weight_layout: str = "NK",
    out_layout: str = "NC",
    data_dtype: str = "",
    weight_dtype: str = "",
    out_dtype: str = "int32",
) -> Call:
    """Build `out[n, u] = Σ data[n, c] · weight[u, c]` with int32 accumulators, wrapped mod 2^32.

    Every layout has two axes (`bench.layout`). N is the row: of the data its batch, of the weight its
    units. The other one, C or K, is the column: of data and weight what is summed over, of the output the
    units. So NC with NC32n4c is Hexagon's dense, NC with NK32n16k the tensor core's, NC1n16c with NC16n16c
    (output NC1n16c) VTA's. The output has as many units as the packed weight, its padding included. With
    `data_dtype` or `weight_dtype` "int4" or "uint4" that operand is int32 words of eight values along its
    last dimension (`bench.int4`).
    """
    return call(
        _OPERATOR,
        [data, weight],
        data_layout=data_layout,
        weight_layout=weight_layout,
        out_layout=out_layout,
        data_dtype=data_dtype,
        weight_dtype=weight_dtype,
        out_dtype=out_dtype,
    )


def column(layout: Layout | str, name: str) -> str:
    """Letter of the axis that is not N in a layout of two axes, C or K; ValueError naming `name`."""
    parsed = Layout.parse(str(layout))
    if sorted(parsed.axes) not in (["C", "N"], ["K", "N"]):
        raise ValueError(f"bitexact.dense: {name} {parsed.text!r} must have the axes N and C, or N and K")
    return parsed.axes.replace("N", "")


def _infer(expression: Call) -> relax.TensorType:
    data, weight = expression.args
    attributes = expression.attrs
    layouts = {name: str(attributes[name]) for name in ("data_layout", "weight_layout", "out_layout")}
    columns = {name: column(layout, name) for name, layout in layouts.items()}
    if str(attributes["out_dtype"]) != "int32":
        raise ValueError(f"bitexact.dense: out_dtype {attributes['out_dtype']!r} must be int32")
    rows = logical_shape(layouts["data_layout"], operand_shape(expression, "data", data))
    units = logical_shape(layouts["weight_layout"], operand_shape(expression, "weight", weight))
    depth = rows[columns["data_layout"]], units[columns["weight_layout"]]
    if depth[0] != depth[1]:
        raise ValueError(
            f"bitexact.dense: data sums over {depth[0]} ({layouts['data_layout']}), "
            f"the weight over {depth[1]} ({layouts['weight_layout']})"
        )
    out_layout = Layout.parse(layouts["out_layout"])
    output = {"N": rows["N"], columns["out_layout"]: units["N"]}
    for axis, extent in output.items():
        if extent % out_layout.block(axis):
            raise ValueError(
                f"bitexact.dense: out_layout {out_layout.text!r} does not divide {axis}={extent}"
            )
    return relax.TensorType(packed_shape(out_layout, output), "int32")


_OPERATOR = register(
    "bitexact.dense",
    "Integer matrix product of packed tensors, described by their layouts.",
    arguments=("data", "weight"),
    infer=_infer,
)
