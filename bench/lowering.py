"""From a transformed graph to an artefact: kernels to machine code, everything else to a host library."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tvm
from tvm import relax, te
from tvm.relax.expr_functor import PyExprMutator, mutator

from bench.artifact import HOST_LIBRARY, Artifact, TensorSpec
from bench.devices.session import CALL
from bench.operators.wrapping import WRAPPING

HOST_TARGET = {"kind": "llvm"}

KernelCall = Callable[[relax.BlockBuilder, str, relax.Call], relax.Expr]


class BuildError(Exception):
    """A kernel or the host library could not be built; the message says which and why."""


def lower_for_machine(mod: tvm.IRModule, machine: Mapping[str, bytes], *, target: str) -> Artifact:
    """An artefact whose accelerator kernels are the machine code in ``machine``.

    ``mod`` is a transformed graph: each call of a private function in ``main`` is a kernel.
    """

    def call_machine(_: relax.BlockBuilder, kernel: str, call: relax.Call) -> relax.Expr:
        arguments = relax.Tuple([tvm.ir.StringImm(kernel), *call.args])
        return relax.op.call_dps_packed(CALL, arguments, call.ty)

    return _lower(mod, call_machine, machine, target=target)


def lower_for_host(
    mod: tvm.IRModule,
    kernels: Mapping[str, tvm.tirx.PrimFunc],
    *,
    target: str,
    objects: Sequence[bytes] = (),
    host: Mapping[str, Any] = HOST_TARGET,
) -> Artifact:
    """An artefact whose accelerator kernels are plain code in the host library.

    ``objects`` are linked with it: compiled functions that the kernels call. ``host`` is TVM's target of it.
    """

    def call_plain(builder: relax.BlockBuilder, kernel: str, call: relax.Call) -> relax.Expr:
        function = kernels[kernel].with_attr("global_symbol", kernel)
        *inputs, output = (tuple(int(extent) for extent in each.shape) for each in function.params)
        arguments = [_as(argument, shape) for argument, shape in zip(call.args, inputs, strict=True)]
        result = relax.TensorType(output, call.ty.dtype)
        called = relax.call_tir(builder.add_func(function, kernel), relax.Tuple(arguments), result)
        return _as(builder.normalize(called), tuple(int(extent) for extent in call.ty.shape))

    return _lower(mod, call_plain, {}, target=target, objects=objects, host=host)


def _lower(
    mod: tvm.IRModule,
    call_kernel: KernelCall,
    machine: Mapping[str, bytes],
    *,
    target: str,
    objects: Sequence[bytes] = (),
    host: Mapping[str, Any] = HOST_TARGET,
) -> Artifact:
    replacer = _KernelReplacer(call_kernel)
    main = expose_bindings(replacer.visit_expr(mod["main"]))
    lowered = replacer.builder_.get()
    lowered["main"] = main
    lowered = relax.transform.LegalizeOps(dict(WRAPPING))(relax.transform.Normalize()(lowered))
    lowered["host_code"] = _host_code()
    return Artifact(
        target=target,
        inputs=tuple(_spec(parameter) for parameter in main.params),
        outputs=tuple(_spec(variable) for variable in main.body.body.fields),
        kernels=tuple(replacer.kernels),
        host_library=_host_library(lowered, objects, host),
        machine=dict(machine),
    )


def _as(tensor: relax.Expr, shape: tuple[int, ...]) -> relax.Expr:
    """A tensor in the shape by which a kernel knows it, with the elements in the same order."""
    same = tuple(int(extent) for extent in tensor.ty.shape) == shape
    return tensor if same else relax.op.reshape(tensor, shape)


@mutator
class _KernelReplacer(PyExprMutator):
    """Replaces each call of a private function by the call of its kernel."""

    def __init__(self, call_kernel: KernelCall) -> None:
        super().__init__(tvm.IRModule())
        self._call_kernel = call_kernel
        self.kernels: list[str] = []

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        """Replace one call."""
        call = super().visit_call_(call)
        if not isinstance(call.op, relax.GlobalVar):
            return call
        self.kernels.append(call.op.name_hint)
        return self._call_kernel(self.builder_, call.op.name_hint, call)


def expose_bindings(main: relax.Function) -> relax.Function:
    """The same function returning a tuple of every tensor that it binds, in order.

    Exposed tensors are what the bench compares; as results of the function they cannot be fused away.
    """
    module = relax.transform.ToNonDataflow()(tvm.IRModule({"main": main}))
    function = module["main"]
    variables = [
        binding.var
        for block in function.body.blocks
        for binding in block.bindings
        if isinstance(binding.var.ty, relax.TensorType)
    ]
    body = relax.SeqExpr(function.body.blocks, relax.Tuple(variables))
    returned = relax.TupleType([variable.ty for variable in variables])
    return relax.Function(function.params, body, returned, is_pure=True, attrs=function.attrs)


def _spec(variable: relax.Var) -> TensorSpec:
    return TensorSpec(
        variable.name, tuple(int(extent) for extent in variable.ty.shape), str(variable.ty.dtype)
    )


def _host_code() -> tvm.tirx.PrimFunc:
    """A function that nothing calls.

    Where kernels compute the whole graph TVM has no machine code for the host, and exports C instead.
    """
    source = te.placeholder((1,), "int32", name="source")
    copy = te.compute((1,), lambda index: source[index], name="copy")
    return te.create_prim_func([source, copy]).with_attr("global_symbol", "host_code")


def _host_library(mod: tvm.IRModule, objects: Sequence[bytes], host: Mapping[str, Any]) -> bytes:
    """The Relax VM executable and the host's operators as one ELF shared object.

    The linker is lld from the package ziglang, so that the machine needs no C compiler.
    """
    try:
        executable = tvm.compile(mod, target=tvm.target.Target(dict(host)))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, HOST_LIBRARY)
            others = []
            for index, content in enumerate(objects):
                others.append(Path(folder, f"called{index}.o"))
                others[-1].write_bytes(content)
            executable.export_library(str(path), fcompile=_linker(others))
            return path.read_bytes()
    except Exception as error:
        raise BuildError(f"the host library could not be built: {error}") from error


def _linker(others: Sequence[Path]) -> Callable[..., None]:
    """What TVM calls to link its objects, here together with others."""

    def link(output: str, objects: list[str], options: object = None, **_: object) -> None:
        command = [sys.executable, "-m", "ziglang", "ld.lld", "-shared", "-o", output, *objects]
        subprocess.run([*command, *map(str, others)], check=True, capture_output=True, text=True)

    link.output_format = "so"  # type: ignore[attr-defined]
    return link
