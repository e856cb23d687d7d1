"""Convolutions in another layout, by Relax's ConvertLayout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tvm
from tvm import relax
from tvm.ir import Call

from bench.layout import Layout
from bench.passes.execution_order import Executed, executed_calls, layer_indices, selected_layers
from bench.passes.layout_config import LayoutConfig
from bench.passes.layout_report import LayoutReport

CONVOLUTION = "relax.nn.conv2d"

# The kernel layout that "default" stands for, by data layout.
DEFAULT_KERNEL_LAYOUTS = {"HWNC": "HWOI", "NCHW": "OIHW", "NHWC": "HWIO"}


def convert_layout(mod: tvm.IRModule, desired_layouts: Mapping[str, Sequence[str]]) -> tvm.IRModule:
    """Convert convolutions to the layouts of data and kernel given for them, transposing where layouts meet.

    `desired_layouts` is `{"relax.nn.conv2d": [data, kernel]}`, as `["HWNC", "default"]`, with which kernels
    become HWOI; a kernel layout that is not "default" is taken literally. Elementwise operators, pooling and
    others that Relax knows the layout of follow their convolution.

    A convolution keeps its layouts, with transpositions around it where they are needed, if it is among the
    `skip_layers` of the `LayoutConfig` around the call, if it has groups (depthwise or other), if it is
    packed already, or if it stands outside a dataflow block or in a function that `main` does not call. What
    became of each one is the `report` of that `LayoutConfig` (`bench.passes.layout_report`). The values of
    the graph stay the same.

    ValueError for operators other than convolutions, for "default" as data layout, and for a layout that
    is not one of a convolution.
    """
    data_layout, kernel_layout = desired_convolution_layouts(desired_layouts)
    scope = LayoutConfig.current()
    mod = relax.transform.Normalize()(mod)
    executed = executed_calls(mod)
    indices = layer_indices(executed, {CONVOLUTION})
    taken = frozenset(
        selected_layers(indices, scope.skip_layers if scope else (), what="LayoutConfig.skip_layers")
    )
    layers = {call.variable: call for call in executed if call.variable in indices}
    kept = {
        variable: _why_kept(layer, taken=variable in taken, wanted=(data_layout, kernel_layout))
        for variable, layer in layers.items()
    }
    converted = [layers[variable].call for variable, reason in kept.items() if reason is None]

    def layouts_of(call: Call) -> dict[str, list[str]]:
        if not isinstance(call.op, tvm.ir.Op) or call.op.name != CONVOLUTION:
            return {}
        if any(call.same_as(layer) for layer in converted):
            return {CONVOLUTION: [data_layout, kernel_layout]}
        # Without layouts of its own a convolution would take over those of its data.
        attributes = call.attrs
        own = (attributes.data_layout, attributes.kernel_layout, attributes.out_layout)
        return {CONVOLUTION: [str(layout) for layout in own]}

    if scope:
        scope.report = tuple(
            LayoutReport(
                index,
                variable.name,
                str(layers[variable].call.attrs.data_layout) if kept[variable] else data_layout,
                str(layers[variable].call.attrs.kernel_layout) if kept[variable] else kernel_layout,
                kept[variable],
            )
            for variable, index in indices.items()
        )
    return relax.transform.ConvertLayout({}, layouts_of)(mod)


def desired_convolution_layouts(desired_layouts: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """Data and kernel layout that the argument of `convert_layout` asks for; ValueError for a wrong one."""
    others = sorted(set(desired_layouts) - {CONVOLUTION, "nn.conv2d"})
    if others or len(desired_layouts) != 1:
        raise ValueError(f"convert_layout converts {CONVOLUTION} alone, not {others or 'nothing'}")
    ((_, layouts),) = desired_layouts.items()
    if isinstance(layouts, str) or len(layouts) != 2:
        raise ValueError(f"the layouts of {CONVOLUTION} must be [data, kernel], not {layouts!r}")
    data, kernel = layouts
    if data == "default":
        raise ValueError('the data layout must be named; only the kernel layout can be "default"')
    if kernel == "default":
        if data not in DEFAULT_KERNEL_LAYOUTS:
            raise ValueError(
                f"data layout {data!r} has no default kernel layout; "
                f"those that have are {', '.join(DEFAULT_KERNEL_LAYOUTS)}"
            )
        kernel = DEFAULT_KERNEL_LAYOUTS[data]
    for what, layout, axes in (("data", data, "NCHW"), ("kernel", kernel, "OIHW")):
        parsed = Layout.parse(layout)
        if sorted(parsed.axes) != sorted(axes) or parsed.factors:
            raise ValueError(f"{what} layout {layout!r} must be the axes {axes} in some order")
    return data, kernel


def _why_kept(layer: Executed, *, taken: bool, wanted: tuple[str, str]) -> str | None:
    """Why a convolution is not converted, the first reason that holds; None where it is."""
    attributes = layer.call.attrs
    present = str(attributes.data_layout), str(attributes.kernel_layout)
    groups = int(attributes.groups)
    reasons = (
        (not taken, "it is skipped"),
        (groups != 1 and groups == _channels(layer), "it is depthwise"),
        (groups != 1, f"it has {groups} groups"),
        (any(Layout.parse(layout).factors for layout in present), f"it is packed, {' and '.join(present)}"),
        (
            str(attributes.out_layout) != present[0],
            f"its result is {attributes.out_layout} and its data {present[0]}",
        ),
        (present == wanted, "it has these layouts"),
        (not layer.dataflow, "it stands outside a dataflow block"),
    )
    return next((reason for holds, reason in reasons if holds), None)


def _channels(layer: Executed) -> int | None:
    """Channels of a convolution's data, where they are known."""
    data = layer.call.args[0].ty
    if not isinstance(data, relax.TensorType) or data.shape is None:
        return None
    extent = data.shape[str(layer.call.attrs.data_layout).index("C")]
    return int(extent) if isinstance(extent, tvm.tirx.IntImm) else None
