"""Faults in a transformed graph: in a packed weight, in a kernel's padding, in a requantisation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst
from tvm.relax.expr_functor import PyExprMutator, mutator

from bench.evaluate.graph import attributes_of
from bench.operators.convolution import conv2d
from bench.passes.lift_kernels import bindings_of, is_packed_operator
from kernels.faults import FaultNotPlanted

Edit = Callable[[relax.Call], relax.Call]


def swap_weight_lanes(mod: tvm.IRModule) -> tvm.IRModule:
    """Exchange the first two input channels of every tile of the largest packed weight."""
    calls = [call for call in _calls(mod["main"]) if is_packed_operator(_first_operator(mod, call))]
    if not calls:
        raise FaultNotPlanted("the graph calls no kernel")
    largest = max(calls, key=lambda call: call.args[1].value.numpy().size)
    weight = largest.args[1].value.numpy()
    swapped = weight.copy()
    swapped[..., [0, 1]] = weight[..., [1, 0]]
    if np.array_equal(weight, swapped):
        raise FaultNotPlanted(f"the first two input channels of {largest.op.name_hint}'s weight are equal")

    def edit(call: relax.Call) -> relax.Call:
        arguments = [call.args[0], relax.const(swapped), *call.args[2:]]
        return relax.Call(call.op, arguments, call.attrs, call.ty_args)

    return _edit_main(mod, largest.same_as, edit)


def shift_by_one(mod: tvm.IRModule) -> tvm.IRModule:
    """Let the first requantisation shift by one bit more to the right."""
    requantisations = [
        call
        for call in _calls(mod["main"])
        if isinstance(operator := _first_operator(mod, call).op, tvm.ir.Op)
        and operator.name == "bitexact.requantize"
    ]
    if not requantisations:
        raise FaultNotPlanted("the graph has no bitexact.requantize")

    def edit(call: relax.Call) -> relax.Call:
        data, multiplier, shift = call.args
        assert isinstance(shift, GenericConst)
        less = relax.const(shift.value.numpy() - np.int32(1))
        return relax.Call(call.op, [data, multiplier, less], call.attrs, call.ty_args)

    return _edit_main(mod, requantisations[0].same_as, edit)


def _calls(function: relax.Function) -> list[relax.Call]:
    return [binding.value for binding in bindings_of(function) if isinstance(binding.value, relax.Call)]


def _first_operator(mod: tvm.IRModule, call: relax.Call) -> relax.Call:
    """The call itself, or the first one of the private function that it calls."""
    return _calls(mod[call.op])[0] if isinstance(call.op, relax.GlobalVar) else call


def drop_padding_row(mod: tvm.IRModule) -> tvm.IRModule:
    """Let the first kernel whose convolution pads at the top take that row at the bottom."""
    for variable, function in mod.functions_items():
        if variable.name_hint == "main":
            continue
        call = bindings_of(function)[0].value
        attributes = attributes_of(call)
        is_convolution = call.op.name in ("relax.nn.conv2d", "bitexact.conv2d")
        if not is_convolution or attributes["padding"][0] == 0:
            continue
        top, left, bottom, right = attributes["padding"]
        edited = _edit_function(function, call, _with_padding(call, (top - 1, left, bottom + 1, right)))
        functions = dict(mod.functions_items())
        return tvm.IRModule({**functions, variable: edited})
    raise FaultNotPlanted("no kernel of the graph is a convolution that pads at the top")


def _with_padding(call: relax.Call, padding: tuple[int, ...]) -> relax.Call:
    attributes = {**attributes_of(call), "padding": padding}
    if call.op.name == "bitexact.conv2d":
        return conv2d(*call.args, **attributes)
    return relax.op.nn.conv2d(*call.args, **attributes)


@mutator
class _Editor(PyExprMutator):
    def __init__(self, chosen: Callable[[relax.Call], bool], edit: Edit) -> None:
        super().__init__()
        self._chosen = chosen
        self._edit = edit

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        """Edit the chosen calls."""
        return self._edit(call) if self._chosen(call) else super().visit_call_(call)


def _edit_main(mod: tvm.IRModule, chosen: Callable[[relax.Call], bool], edit: Edit) -> tvm.IRModule:
    main = _Editor(chosen, edit).visit_expr(mod["main"])
    functions = dict(mod.functions_items())
    return tvm.IRModule({**functions, mod.get_global_var("main"): main})


def _edit_function(function: relax.Function, old: relax.Call, new: relax.Call) -> relax.Function:
    return _Editor(lambda call: call.same_as(old), lambda _: new).visit_expr(function)
