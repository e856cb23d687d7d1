"""Walk a Relax function and evaluate its bindings in NumPy, in order."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.ir import Call, GenericConst, GlobalVar, Op, StringImm, Tuple, TupleGetItem

from bench.evaluate.dtypes import numpy_dtype
from bench.evaluate.registry import Evaluator, OperatorCall

Kernel = Callable[[Sequence[np.ndarray], np.ndarray], None]
"""What computes a function of a module: it takes the arguments, and fills the result."""

Inputs = np.ndarray | Sequence[np.ndarray] | Mapping[str, np.ndarray]


def evaluate(
    mod: tvm.IRModule | relax.Function,
    inputs: Inputs,
    *,
    function: str = "main",
    overrides: Mapping[str, Evaluator] | None = None,
    record: MutableMapping[str, np.ndarray] | None = None,
    kernels: Mapping[str, Kernel] | None = None,
) -> Any:
    """Evaluate a function of a module: an array, or a (nested) tuple of arrays where it returns one.

    `inputs` is one array for each parameter: an array, a sequence, or a mapping by parameter name. They
    must have the parameters' shapes and dtypes. `overrides` maps the name of an operator to a function of
    an `OperatorCall` that takes its place; its result is held to the shape and dtype of the graph.
    `record` receives every binding, as `evaluate_all` returns them; without it a tensor is given up after
    its last use. `kernels` maps the name of a function of the module to what takes its place: it is called
    with the arguments and an array for the result, which it fills.

    ValueError for inputs or results that do not fit; NotImplementedError names an operator, or another
    construct, that cannot be evaluated.
    """
    walker = _Walker(
        module=mod if isinstance(mod, tvm.IRModule) else None,
        overrides=dict(overrides or {}),
        record=record,
        kernels=dict(kernels or {}),
    )
    entry = mod if isinstance(mod, relax.Function) else _function(mod, function)
    return walker.function(entry, _bind_inputs(entry, inputs, function), prefix="")


def evaluate_all(
    mod: tvm.IRModule | relax.Function,
    inputs: Inputs,
    *,
    function: str = "main",
    overrides: Mapping[str, Evaluator] | None = None,
    only: Container[str] | None = None,
    kernels: Mapping[str, Kernel] | None = None,
) -> dict[str, np.ndarray]:
    """Evaluate a function and return the value of every binding by name, in the order of execution.

    Bindings of a function that the graph calls are named `binding/inner`, elements of a tuple `binding.0`,
    `binding.1`; a second binding of one name gets `_1`, `_2` … appended. `only` are the names to keep: the
    other tensors are given up after their last use. For the other options see `evaluate`.
    """
    record: dict[str, np.ndarray] = {} if only is None else _Chosen(only)
    evaluate(mod, inputs, function=function, overrides=overrides, record=record, kernels=kernels)
    return dict(record)


class _Chosen(dict[str, np.ndarray]):
    """A record that keeps some names; all are noted, so that a second of one name is numbered."""

    def __init__(self, names: Container[str]) -> None:
        super().__init__()
        self._names = names
        self._seen: set[str] = set()

    def __contains__(self, name: object) -> bool:
        return name in self._seen

    def __setitem__(self, name: str, value: np.ndarray) -> None:
        self._seen.add(name)
        if name in self._names:
            super().__setitem__(name, value)


def _function(module: tvm.IRModule, name: str) -> relax.Function:
    functions = {variable.name_hint: body for variable, body in module.functions.items()}
    if not isinstance(functions.get(name), relax.Function):
        known = sorted(key for key, body in functions.items() if isinstance(body, relax.Function))
        raise ValueError(f"the module has no Relax function {name!r}; it has {', '.join(known) or 'none'}")
    return functions[name]


def _bind_inputs(function: relax.Function, inputs: Inputs, name: str) -> list[np.ndarray]:
    names = [parameter.name for parameter in function.params]
    if isinstance(inputs, np.ndarray):
        inputs = [inputs]
    if isinstance(inputs, Mapping):
        if set(inputs) != set(names):
            raise ValueError(f"inputs {sorted(inputs)} of {name!r} must be exactly its parameters {names}")
        inputs = [inputs[parameter] for parameter in names]
    if len(inputs) != len(names):
        raise ValueError(f"{name!r} takes {len(names)} inputs ({', '.join(names)}), not {len(inputs)}")
    for parameter, value in zip(function.params, inputs, strict=True):
        _check(value, parameter.ty, f"input {parameter.name!r} of {name!r}")
    return list(inputs)


def _static_shape(tensor: relax.TensorType) -> tuple[int, ...] | None:
    if tensor.shape is None or not all(isinstance(extent, tirx.IntImm) for extent in tensor.shape):
        return None
    return tuple(int(extent) for extent in tensor.shape)


def _check(value: Any, expected: Any, what: str) -> None:
    """Hold a value to its type; a type that says less is satisfied by more."""
    if not isinstance(expected, relax.TensorType):
        return
    shape = _static_shape(expected)
    dtype = numpy_dtype(str(expected.dtype))
    if (
        not isinstance(value, np.ndarray)
        or value.dtype != dtype
        or (shape is not None and value.shape != shape)
    ):
        found = f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else repr(value)
        raise ValueError(
            f"{what} is {found}; the graph says {dtype}{list(shape) if shape is not None else ''}"
        )


def plain(value: Any) -> Any:
    """Turn an attribute of a call into plain Python values; what has no such form is kept."""
    if isinstance(value, tirx.IntImm | tirx.FloatImm | StringImm):
        return value.value
    if isinstance(value, tvm_ffi.Array):
        return tuple(plain(item) for item in value)
    return str(value) if isinstance(value, str | tvm_ffi.dtype) else value


def attributes_of(call: Call) -> dict[str, Any]:
    """Attributes of a call of a Relax operator by name, as plain Python values."""
    attributes = call.attrs
    if attributes is None:
        return {}
    if isinstance(attributes, tvm.ir.attrs.DictAttrs):
        return {str(key): plain(attributes[key]) for key in attributes.keys()}  # noqa: SIM118
    fields = type(attributes).__tvm_ffi_type_info__.fields
    return {item.name: plain(getattr(attributes, item.name)) for item in fields}


def _last_uses(bindings: Sequence[Any], result: Any) -> list[list[relax.Var]]:
    """For each binding the variables of the same body that nothing after it reads."""
    own = {binding.var for binding in bindings}
    needed = set(relax.analysis.free_vars(result))
    finished: list[list[relax.Var]] = []
    for binding in reversed(bindings):
        read = {variable for variable in relax.analysis.free_vars(binding.value) if variable in own}
        # A binding that nothing reads is given up at once.
        finished.append(list((read | {binding.var}) - needed))
        needed |= read
    return finished[::-1]


@dataclass
class _Walker:
    module: tvm.IRModule | None
    overrides: dict[str, Evaluator]
    record: MutableMapping[str, np.ndarray] | None
    kernels: dict[str, Kernel]

    def function(self, function: relax.Function, arguments: Sequence[Any], prefix: str) -> Any:
        """Evaluate a function; `prefix` stands before the names of its bindings."""
        environment = dict(zip(function.params, arguments, strict=True))
        return self.body(function.body, environment, prefix)

    def body(self, body: Any, environment: dict[Any, Any], prefix: str) -> Any:
        if not isinstance(body, relax.SeqExpr):
            return self.expression(body, environment, prefix.rstrip("/"))
        bindings = [binding for block in body.blocks for binding in block.bindings]
        for binding, finished in zip(bindings, _last_uses(bindings, body.body), strict=True):
            name = prefix + binding.var.name
            value = self.expression(binding.value, environment, name)
            if not isinstance(value, relax.Function):
                _check(value, binding.var.ty, f"binding {name!r}")
            environment[binding.var] = value
            self.remember(name, value)
            for variable in finished:
                del environment[variable]
        return self.expression(body.body, environment, prefix.rstrip("/"))

    def remember(self, name: str, value: Any) -> None:
        if self.record is None:
            return
        if isinstance(value, tuple):
            for position, item in enumerate(value):
                self.remember(f"{name}.{position}", item)
        elif isinstance(value, np.ndarray):
            unique, repeats = name, 0
            while unique in self.record:
                repeats += 1
                unique = f"{name}_{repeats}"
            self.record[unique] = value

    def expression(  # noqa: PLR0911 - one return for each kind of expression
        self, expression: Any, environment: dict[Any, Any], name: str
    ) -> Any:
        match expression:
            case relax.Var():
                return environment[expression]
            case GenericConst():
                return expression.value.numpy()
            case tirx.IntImm() | tirx.FloatImm() | StringImm():
                return expression.value
            case relax.ShapeExpr():
                return tuple(self.expression(extent, environment, name) for extent in expression.values)
            case Tuple():
                return tuple(self.expression(item, environment, name) for item in expression.fields)
            case TupleGetItem():
                return self.expression(expression.tuple_value, environment, name)[expression.index]
            case Call():
                return self.call(expression, environment, name)
            case relax.Function() | GlobalVar():
                return expression
            case relax.ExternFunc():
                return str(expression.global_symbol)
            case relax.SeqExpr():
                return self.body(expression, environment, f"{name}/")
        raise NotImplementedError(f"no NumPy evaluation of {type(expression).__name__} (binding {name!r})")

    def call(self, call: Call, environment: dict[Any, Any], name: str) -> Any:
        arguments = tuple(self.expression(argument, environment, name) for argument in call.args)
        if isinstance(call.op, Op):
            return self.operator(call, arguments, name)
        callee = self.expression(call.op, environment, name)
        if isinstance(callee, GlobalVar):
            if callee.name_hint in self.kernels:
                return self.kernel(callee.name_hint, call, arguments)
            if self.module is None:
                raise ValueError(
                    f"binding {name!r} calls {callee.name_hint!r}: evaluate its module, not a function"
                )
            callee = _function(self.module, callee.name_hint)
        return self.function(callee, arguments, prefix=f"{name}/")

    def kernel(self, kernel: str, call: Call, arguments: tuple[Any, ...]) -> np.ndarray:
        shape = _static_shape(call.ty)
        if shape is None:
            raise ValueError(f"the result of kernel {kernel!r} has no static shape")
        result = np.zeros(shape, numpy_dtype(str(call.ty.dtype)))
        self.kernels[kernel](arguments, result)
        return result

    def operator(self, call: Call, arguments: tuple[Any, ...], name: str) -> Any:
        tensor = call.ty if isinstance(call.ty, relax.TensorType) else None
        described = OperatorCall(
            operator=call.op.name,
            name=name,
            arguments=arguments,
            attributes=attributes_of(call),
            shape=_static_shape(tensor) if tensor is not None else None,
            dtype=str(tensor.dtype) if tensor is not None else None,
        )
        override = self.overrides.get(described.operator)
        result = described.default() if override is None else override(described)
        _check(result, call.ty, f"{described.operator} in {name!r}")
        return result
