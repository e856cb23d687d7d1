"""`bitexact.conv2d`: an integer convolution on packed tensors described by their layouts."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax
from tvm.ir import Call, Expr

from bench.layout import Layout, logical_shape, packed_shape
from bench.operators.operands import operand_shape
from bench.operators.registration import call, register


def conv2d(
    data: Expr,
    weight: Expr,
    *,
    data_layout: str,
    kernel_layout: str,
    out_layout: str | None = None,
    strides: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    data_dtype: str = "",
    weight_dtype: str = "",
    out_dtype: str = "int32",
) -> Call:
    """Build a convolution with int32 accumulators, wrapped mod 2^32.

    The layouts split the axes N, C, H, W of data and output and O, I, H, W of the weight (`bench.layout`),
    for instance NCHW32c with OIHW8i32o4i. `padding` is (top, left, bottom, right) in zeros. The I of a
    weight are the input channels of one of the `groups`.
    The output has as many channels as the packed weight, its padding included, and the factors of
    `out_layout` (the data's where None) must divide them. With `data_dtype` or `weight_dtype` "int4" or
    "uint4" that operand is int32 words of eight values along its last dimension (`bench.int4`).
    ValueError names what does not fit.
    """
    return call(
        _OPERATOR,
        [data, weight],
        data_layout=data_layout,
        kernel_layout=kernel_layout,
        out_layout=out_layout or data_layout,
        strides=[int(step) for step in strides],
        padding=[int(width) for width in padding],
        dilation=[int(step) for step in dilation],
        groups=int(groups),
        data_dtype=data_dtype,
        weight_dtype=weight_dtype,
        out_dtype=out_dtype,
    )


def output_extent(extent: int, kernel: int, *, stride: int, dilation: int, before: int, after: int) -> int:
    """Positions of a strided, dilated window of `kernel` taps over `extent` plus padding."""
    return (extent + before + after - dilation * (kernel - 1) - 1) // stride + 1


def _infer(expression: Call) -> relax.TensorType:
    data, weight = expression.args
    attributes = expression.attrs
    layouts = {name: str(attributes[name]) for name in ("data_layout", "kernel_layout", "out_layout")}
    for name, axes in (("data_layout", "NCHW"), ("kernel_layout", "OIHW"), ("out_layout", "NCHW")):
        if sorted(Layout.parse(layouts[name]).axes) != sorted(axes):
            raise ValueError(f"bitexact.conv2d: {name} {layouts[name]!r} must have the axes {axes}")
    for name, length in (("strides", 2), ("padding", 4), ("dilation", 2)):
        if len(attributes[name]) != length:
            raise ValueError(f"bitexact.conv2d: {name} {tuple(attributes[name])} must have {length} entries")
    if str(attributes["out_dtype"]) != "int32":
        raise ValueError(f"bitexact.conv2d: out_dtype {attributes['out_dtype']!r} must be int32")
    image = logical_shape(layouts["data_layout"], operand_shape(expression, "data", data))
    kernel = logical_shape(layouts["kernel_layout"], operand_shape(expression, "weight", weight))
    groups = int(attributes["groups"])
    if groups < 1 or image["C"] != kernel["I"] * groups or kernel["O"] % groups:
        raise ValueError(
            f"bitexact.conv2d: data with C={image['C']} ({layouts['data_layout']}) meets a weight with "
            f"I={kernel['I']} ({layouts['kernel_layout']})"
            + (f" in {groups} groups of its O={kernel['O']}" if groups != 1 else "")
        )
    strides, padding, dilation = (
        [int(value) for value in attributes[name]] for name in ("strides", "padding", "dilation")
    )
    output = {"N": image["N"], "C": kernel["O"]}
    for position, axis in enumerate("HW"):
        output[axis] = output_extent(
            image[axis],
            kernel[axis],
            stride=strides[position],
            dilation=dilation[position],
            before=padding[position],
            after=padding[position + 2],
        )
        if output[axis] < 1:
            raise ValueError(f"bitexact.conv2d: the kernel {kernel} is larger than the padded data {image}")
    out_layout = Layout.parse(layouts["out_layout"])
    for axis, extent in output.items():
        if extent % out_layout.block(axis):
            raise ValueError(
                f"bitexact.conv2d: out_layout {out_layout.text!r} does not divide {axis}={extent}"
            )
    return relax.TensorType(packed_shape(out_layout, output), "int32")


_OPERATOR = register(
    "bitexact.conv2d",
    "Integer convolution of packed tensors, described by their layouts.",
    arguments=("data", "weight"),
    infer=_infer,
)
