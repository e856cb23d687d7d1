"""From TensorIR to one static Hexagon ELF that serves all its functions."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import tvm
import tvm_ffi
from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from kernels.hexagon.architectures import check_architecture
from kernels.hexagon.machine_code import find_vrmpy
from kernels.hexagon.object_cache import kept_or_built
from kernels.hexagon.toolchain import RUNTIME, compile_c, link

Kernel: TypeAlias = PrimFunc | tvm.IRModule | Schedule


class BuildError(RuntimeError):
    """The compiler produced something other than what the schedule asked for."""


def hexagon_target(architecture: int = 67) -> tvm.target.Target:
    """Give TVM's target for HVX: kind `llvm`, since kind `hexagon` fails in 0.27 (it splits off a host)."""
    check_architecture(architecture)
    return tvm.target.Target(
        {
            "kind": "llvm",
            "mtriple": "hexagon-unknown-elf",
            "mcpu": f"hexagonv{architecture}",
            "mattr": [f"+hvxv{architecture}", "+hvx-length128b"],
        }
    )


def _single_function(name: str, kernel: Kernel) -> PrimFunc:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"{name!r} cannot be the name of a function: it has to be a C identifier")
    if isinstance(kernel, Schedule):
        kernel = kernel.mod
    if isinstance(kernel, tvm.IRModule):
        functions = [function for _, function in kernel.functions_items()]
        if len(functions) != 1:
            raise ValueError(f"the module given as {name!r} holds {len(functions)} functions instead of one")
        kernel = functions[0]
    if not isinstance(kernel, PrimFunc):
        raise ValueError(f"{name!r} is a {type(kernel).__name__}, not a PrimFunc, an IRModule or a Schedule")
    return kernel.with_attr("global_symbol", name)


def _asks_for_vrmpy(function: PrimFunc) -> bool:
    return "llvm.hexagon.V6.vrmpy" in function.script()


def compile_object(name: str, kernel: Kernel, *, architecture: int = 67) -> bytes:
    """Compile a function to an object with TVM's LLVM, exported as `__tvm_ffi_NAME`.

    Objects are kept (`kernels.hexagon.object_cache`) under the function, the target and the compiler, so the
    same function is compiled once. Raises ValueError for a name that is no C identifier, for anything but one
    PrimFunc, and for an unknown architecture; BuildError where the schedule asks for vrmpy and the object
    holds none.
    """
    function = _single_function(name, kernel)
    target = hexagon_target(architecture)

    def build() -> bytes:
        executable = tvm.compile(tvm.IRModule({name: function}), target=target)
        with tempfile.TemporaryDirectory(prefix="bitexact-") as directory:
            path = Path(directory) / "function.o"
            executable.mod.write_to_file(str(path))
            return path.read_bytes()

    built = kept_or_built([*_compiler(), str(target), name, tvm.ir.save_json(function)], build)
    if _asks_for_vrmpy(function) and not find_vrmpy(built):
        raise BuildError(f"LLVM's object holds no vrmpy, although {name} asks for it")
    return built


def _compiler() -> list[str]:
    """Everything that tells TVM's compiler, as it is now, from another: versions, files and options.

    Files count by their size and time, for a TVM that was built anew under the same version.
    """
    packages = [f"TVM {tvm.__version__}", f"TVM FFI {tvm_ffi.__version__}"]
    llvm = f"LLVM {tvm.target.codegen.llvm_version_major(allow_none=True)}"
    libraries = sorted(Path(tvm.__file__).parent.glob("lib/*compiler*"))
    files = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in libraries]
    context = tvm.transform.PassContext.current()
    options = f"{context.opt_level} {context.config} {context.required_pass} {context.disabled_pass}"
    return [*packages, llvm, *files, options]


def link_server(objects: Sequence[bytes], names: Sequence[str], *, architecture: int = 67) -> bytes:
    """Link objects that export `__tvm_ffi_NAME` for each name with the function server (runtime/server.c)."""
    check_architecture(architecture)
    declarations = "".join(f"extern compiled_function __tvm_ffi_{name};\n" for name in names)
    entries = "".join(f'    {{"{name}", __tvm_ffi_{name}}},\n' for name in names)
    table = (
        f'#include "server.h"\n{declarations}const named_function function_table[] = {{\n{entries}}};\n'
        f"const u32 function_count = {len(names)};\n"
    )
    server = compile_c((RUNTIME / "server.c").read_text(), architecture=architecture)
    return link([server, compile_c(table, architecture=architecture), *objects])


def build_elf(functions: Mapping[str, Kernel], *, architecture: int = 67) -> bytes:
    """Build one static Hexagon ELF that holds all functions and serves calls of them on its standard streams.

    Every function takes tensors only, on the CPU device, contiguous. A name is a C identifier. The client is
    `simulators.hvx.qemu.FunctionServer`. Raises as `compile_object` does, and toolchain.ToolchainError.
    """
    if not functions:
        raise ValueError("no functions to compile")
    objects = [compile_object(name, kernel, architecture=architecture) for name, kernel in functions.items()]
    return link_server(objects, list(functions), architecture=architecture)
