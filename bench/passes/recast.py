"""Layers in another element type: casts in, the layer, a cast back."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import tvm
import tvm_ffi
from tvm import relax
from tvm.ir import Call, make_node
from tvm.relax.expr_functor import PyExprMutator, mutator

from bench.evaluate.graph import attributes_of
from bench.passes.execution_order import executed_calls, layer_indices, selected_layers
from bench.passes.operator_names import operator_names

DEFAULT_OPERATORS = ("relax.nn.conv2d",)


def recast(  # noqa: PLR0917 - the signature of TVM's PR #6748, and one option more
    mod: tvm.IRModule | relax.Function,
    dtype: str,
    out_dtype: str,
    ops: Sequence[str] | None = None,
    skip_layers: Collection[int] | None = None,
    index_by: str = "order",
) -> tvm.IRModule | relax.Function:
    """Let layers compute in `dtype` and accumulate in `out_dtype`; a function gives a function.

    Every tensor that a listed operator reads (the fields of a tuple too) is cast to `dtype`, its attribute
    `out_dtype` becomes `out_dtype` where it has one, and its result is cast back to the type it had. A cast
    to the type that a tensor has already is left out. `ops` are the operators, by default convolutions.

    `skip_layers` are indices of layers that stay as they are, in the order of execution over the listed
    operators and through functions; negative ones count from the end (`index_by="depth"`: see
    `bench.passes.execution_order.layer_indices`). Functions that `main` does not call stay as they are.

    This is for benchmarks and for graphs that are made of integers already: nothing is scaled, and a cast
    from float to an integer truncates towards zero. ValueError names operators that do not exist,
    LayerIndexError an index out of range and the range.
    """
    if isinstance(mod, relax.Function):
        whole = recast(tvm.IRModule({"main": mod}), dtype, out_dtype, ops, skip_layers, index_by)
        function = whole["main"]
        named = mod.attrs is not None and "global_symbol" in mod.attrs
        return function if named else function.without_attr("global_symbol")
    operators = operator_names(DEFAULT_OPERATORS if ops is None else ops)
    mod = relax.transform.Normalize()(mod)
    indices = layer_indices(executed_calls(mod), operators, index_by=index_by)
    layers = selected_layers(indices, skip_layers, what="recast")
    recaster = _Recaster(mod, frozenset(layers), dtype, out_dtype)
    for variable, function in mod.functions_items():
        if isinstance(function, relax.Function):
            recaster.builder_.update_func(variable, recaster.visit_expr(function))
    return recaster.builder_.get()


@mutator
class _Recaster(PyExprMutator):
    """Rewrites the bindings of the chosen variables."""

    def __init__(self, mod: tvm.IRModule, layers: frozenset[relax.Var], dtype: str, out_dtype: str) -> None:
        super().__init__(mod)
        self._layers = layers
        self._dtype = dtype
        self._out_dtype = out_dtype
        self._layer: relax.Var | None = None
        self._names = _names(mod)

    def visit_var_binding_(self, binding: relax.VarBinding) -> None:
        """Note which binding the next call belongs to."""
        self._layer = binding.var if binding.var in self._layers else None
        super().visit_var_binding_(binding)

    def visit_call_(self, call: Call) -> relax.Expr:
        """Rewrite the call of a chosen binding."""
        layer, self._layer = self._layer, None
        call = super().visit_call_(call)
        if layer is None:
            return call
        names = ("data", "weight") if len(call.args) == 2 else tuple(map(str, range(len(call.args))))
        arguments = [
            self._cast(argument, self._dtype, f"{layer.name}_{name}")
            for argument, name in zip(call.args, names, strict=True)
        ]
        result = self.builder_.normalize(
            Call(call.op, arguments, _with_out_dtype(call, self._out_dtype), call.ty_args)
        )
        if tvm_ffi.structural_equal(result.ty, layer.ty):
            return result
        dtype = str(getattr(result.ty, "dtype", self._dtype))
        return self._cast_back(self._emit(result, f"{layer.name}_{dtype}"), layer)

    def _emit(self, expression: relax.Expr, name: str) -> relax.Var:
        """Bind an expression to a name that no other tensor of the module has."""
        unique, repeats = name, 0
        while unique in self._names:
            repeats += 1
            unique = f"{name}_{repeats}"
        self._names.add(unique)
        return self.builder_.emit(expression, unique)

    def _cast(self, argument: relax.Expr, dtype: str, name: str) -> relax.Expr:
        """An argument of a layer in another type; what is no tensor stays as it is."""
        if isinstance(argument.ty, relax.TupleType):
            literal = isinstance(argument, relax.Tuple)
            fields = argument.fields if literal else map(argument.__getitem__, range(len(argument.ty.fields)))
            return relax.Tuple([self._cast(self.builder_.normalize(field), dtype, name) for field in fields])
        if not isinstance(argument.ty, relax.TensorType) or str(argument.ty.dtype) == dtype:
            return argument
        return self._emit(relax.op.astype(argument, dtype), name)

    def _cast_back(self, result: relax.Var, layer: relax.Var) -> relax.Expr:
        """The result of a layer in the type that the layer had."""
        if not isinstance(layer.ty, relax.TupleType):
            return relax.op.astype(result, layer.ty.dtype)
        fields: list[relax.Expr] = []
        for index, field in enumerate(layer.ty.fields):
            value = self._emit(relax.TupleGetItem(result, index), f"{result.name}_{index}")
            fields.append(self._emit(relax.op.astype(value, field.dtype), f"{layer.name}_{index}"))
        return relax.Tuple(fields)


def _names(mod: tvm.IRModule) -> set[str]:
    """The names of all tensors of a module."""
    names: set[str] = set()
    for function in mod.functions.values():
        if isinstance(function, relax.Function):
            names.update(variable.name for variable in relax.analysis.all_vars(function))
    return names


def _with_out_dtype(call: Call, out_dtype: str) -> tvm.ir.Attrs:
    """The attributes of a call, with another `out_dtype` if there is one among them."""
    attributes = attributes_of(call)
    if "out_dtype" not in attributes:
        return call.attrs
    attributes["out_dtype"] = out_dtype
    return make_node(type(call.attrs).__tvm_ffi_type_info__.type_key, **attributes)
