"""From a scheduled TensorIR function to the PTX text of its kernel, and all that a launch needs to know."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

import tvm
from tvm import tirx
from tvm.ir.transform import PassContext
from tvm.target import Target
from tvm.tirx.build import codegen_build, split_host_device_mods
from tvm_ffi import structural_walk

from kernels.tensorcore.mma import device_functions
from kernels.tensorcore.nvrtc import compile_cuda

# TVM 0.27 writes a vector of sixteen equal bytes (the zeros of padding) as make_int4 or make_uint4 of
# sixteen arguments, and one of eight as make_int2 or make_uint2 of eight, which CUDA does not have.
_PRELUDE = """
#define WORD(a, b, c, d) \\
  ((unsigned)(unsigned char)(a) | (unsigned)(unsigned char)(b) << 8 | \\
   (unsigned)(unsigned char)(c) << 16 | (unsigned)(unsigned char)(d) << 24)
#define SIXTEEN(vector, byte) \\
  static __device__ __forceinline__ vector make_##vector( \\
      byte b0, byte b1, byte b2, byte b3, byte b4, byte b5, byte b6, byte b7, \\
      byte b8, byte b9, byte b10, byte b11, byte b12, byte b13, byte b14, byte b15) { \\
    return make_##vector(WORD(b0, b1, b2, b3), WORD(b4, b5, b6, b7), \\
                         WORD(b8, b9, b10, b11), WORD(b12, b13, b14, b15)); \\
  }
#define EIGHT(vector, byte) \\
  static __device__ __forceinline__ vector make_##vector( \\
      byte b0, byte b1, byte b2, byte b3, byte b4, byte b5, byte b6, byte b7) { \\
    return make_##vector(WORD(b0, b1, b2, b3), WORD(b4, b5, b6, b7)); \\
  }
SIXTEEN(int4, signed char)
SIXTEEN(uint4, unsigned char)
EIGHT(int2, signed char)
EIGHT(uint2, unsigned char)
#undef SIXTEEN
#undef EIGHT
#undef WORD
"""

# TVM's preamble includes this header for traits that few of its kernels use, and reading it takes NVRTC
# nine tenths of the whole compilation. These are declared but not defined: a use would not compile.
_TRAITS_DECLARED = {
    "cuda/std/type_traits": """
namespace cuda { namespace std {
template <class A, class B> struct is_same;
template <class A, class B> inline constexpr bool is_same_v = is_same<A, B>::value;
template <class A> struct is_integral;
template <class A> struct is_signed;
template <class A> struct is_unsigned;
template <class A> struct is_floating_point;
template <bool C, class A = void> struct enable_if;
template <bool C, class A, class B> struct conditional;
} }
"""
}

_TRAIT_USED = re.compile(r"(?<!using cuda::)std::(?:is_|enable_if|conditional)")

# A scheduled function with this attribute keeps each of its buffers apart from the others.
OWN_STORAGE = "bitexact.own_storage"

_AXES = ("x", "y", "z")


@dataclass(frozen=True)
class Argument:
    """One buffer that a kernel takes a pointer to: its name and type in TensorIR, its shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class PtxKernel:
    """A compiled kernel: PTX text, entry point, and its launch. Sizes are (x, y, z), memory is in bytes.

    `arguments` are in the order of the entry point's parameters, each a pointer to a contiguous buffer.
    `parameters` names the buffers of the function that was compiled, in its own order; a buffer that the
    kernel never touches is not among the arguments.
    """

    text: str
    entry: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    dynamic_shared: int
    arguments: tuple[Argument, ...]
    parameters: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give a form that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> PtxKernel:
        """Take back what `to_dict` made, also after a way through JSON (where tuples become lists)."""
        return cls(
            text=stored["text"],
            entry=stored["entry"],
            grid=_three(stored["grid"]),
            block=_three(stored["block"]),
            dynamic_shared=stored["dynamic_shared"],
            arguments=tuple(
                Argument(name=argument["name"], dtype=argument["dtype"], shape=tuple(argument["shape"]))
                for argument in stored["arguments"]
            ),
            parameters=tuple(stored["parameters"]),
        )

    def in_kernel_order(self, buffers: dict[str, Any]) -> list[Any]:
        """Put the buffers of the compiled function, given by name, in the order of the entry point.

        The entry point may take fewer (a layer that sees only padding never reads its data). Raises
        ValueError unless exactly the function's own buffers are given.
        """
        if sorted(self.parameters) != sorted(buffers):
            raise ValueError(
                f"{self.entry} takes {', '.join(self.parameters)}; given are {', '.join(buffers)}"
            )
        return [buffers[argument.name] for argument in self.arguments]


def _three(values: Any) -> tuple[int, int, int]:
    x, y, z = values
    return (x, y, z)


def _launch(kernel: tirx.PrimFunc) -> dict[str, int]:
    """Extents of the kernel's launch dimensions, such as {"blockIdx.x": 64}; what is absent is 1."""
    extents: dict[str, int] = {}

    def note_thread_extent(statement: tirx.AttrStmt) -> None:
        if statement.attr_key == "thread_extent":
            extents[str(statement.node.thread_tag)] = int(statement.value)

    structural_walk(kernel.body, (tirx.AttrStmt, note_thread_extent))
    expected = [str(name) for name in kernel.attrs["tirx.kernel_launch_params"]]
    known = {f"{kind}Idx.{axis}" for kind in ("block", "thread") for axis in _AXES}
    if set(expected) != set(extents) or not set(expected) <= known:
        raise ValueError(f"the launch takes {expected}; extents are known of {sorted(extents)}")
    return extents


def compile_cuda_source(scheduled: tirx.PrimFunc, *, name: str, arch: str) -> tuple[str, tirx.PrimFunc]:
    """Let TVM write the CUDA C++ of a scheduled function; with it comes the lowered kernel.

    Raises ValueError if the function lowers to more or less than one kernel.
    """
    target = Target({"kind": "cuda", "arch": arch}, host="llvm")
    module = tvm.IRModule({name: scheduled.with_attr("global_symbol", name)})
    pipeline, _, finalize_device = tirx.get_default_tir_pipeline(target)
    # With merge_static_smem in place of this, TVM 0.27 lets buffers share memory after it has placed the
    # barriers, and kernels race.
    config = {"tirx.disable_storage_rewrite": bool((scheduled.attrs or {}).get(OWN_STORAGE, False))}
    with PassContext(config=config):
        lowered_module = pipeline(tirx.transform.BindTarget(target)(module))
    _, devices = split_host_device_mods(lowered_module)
    kernels = [
        (device, lowered)
        for device, lowered in devices.items()
        if device.kind.name == "cuda" and len(lowered.functions)
    ]
    functions = [function for _, lowered in kernels for function in lowered.functions.values()]
    if len(functions) != 1:
        raise ValueError(f"{name} lowers to {len(functions)} CUDA kernels: it must be scheduled as one")
    device, lowered = kernels[0]
    lowered = finalize_device()(lowered)
    (kernel,) = lowered.functions.values()
    return codegen_build(lowered, device).inspect_source("cuda"), kernel


def compile_ptx(scheduled: tirx.PrimFunc, *, name: str, arch: str = "sm_80") -> PtxKernel:
    """Compile a scheduled function (of buffers with constant shapes) to PTX: TVM to CUDA C++, NVRTC to PTX.

    The entry point is `name` with "_kernel". Shared memory is static, so `dynamic_shared` is 0. Raises
    ValueError for a function that is not one CUDA kernel, NvrtcError where NVRTC refuses or is missing.
    """
    source, kernel = compile_cuda_source(scheduled, name=name, arch=arch)
    extents = _launch(kernel)
    buffers = {
        parameter.name: Argument(
            name=parameter.name,
            dtype=str(parameter.dtype),
            shape=tuple(int(size) for size in parameter.shape),
        )
        for parameter in scheduled.params
    }
    # A kernel takes the data pointers of the buffers, in an order of its own.
    names = [parameter.name.removesuffix("_ptr") for parameter in kernel.params]
    if not set(names) <= set(buffers):
        raise ValueError(f"{name}: the kernel takes {names}, the function {list(buffers)}")
    headers = None if _TRAIT_USED.search(source) else _TRAITS_DECLARED
    entry = str(kernel.attrs["global_symbol"])
    return PtxKernel(
        text=compile_cuda(
            _PRELUDE + device_functions(source) + source, arch=arch, name=name, headers=headers
        ),
        entry=entry,
        grid=_three(extents.get(f"blockIdx.{axis}", 1) for axis in _AXES),
        block=_three(extents.get(f"threadIdx.{axis}", 1) for axis in _AXES),
        dynamic_shared=0,
        arguments=tuple(buffers[name] for name in names),
        parameters=tuple(buffers),
    )
