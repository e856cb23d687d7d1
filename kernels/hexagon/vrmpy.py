"""vrmpy as a tensor intrinsic whose 32 accumulators stay in a register.

TVM 0.27's own vrmpy intrinsics describe accumulators in `global` memory, which costs a load and a store of
128 bytes for every vrmpy. These have accumulators of scope `local`; where the loops around are unrolled,
LLVM keeps each tile of 32 in one vector register throughout the reduction.

The four data bytes are read as one int32 from a second view of their buffer. TVM promises LLVM no more
alignment than an element has, so reading them as bytes would become four loads and six shifts and ors.
"""

from types import MappingProxyType

from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T  # noqa: N812
from tvm.tirx import PrimFunc

# (data dtype, weight dtype) -> (name of the tensor intrinsic, LLVM intrinsic). Data is one word of four
# bytes; the unsigned form takes it from a scalar register, which the signed one cannot: in vrmpybus it is
# the scalar that is signed. So there the word is broadcast to a vector first.
INTRINSICS: MappingProxyType[tuple[str, str], tuple[str, str]] = MappingProxyType(
    {
        ("uint8", "uint8"): ("bitexact.hexagon.vrmpyub_acc", "llvm.hexagon.V6.vrmpyub.acc.128B"),
        ("uint8", "int8"): ("bitexact.hexagon.vrmpybusv_acc", "llvm.hexagon.V6.vrmpybusv.acc.128B"),
    }
)


def _description(weight_dtype: str) -> PrimFunc:
    @T.prim_func(s_tir=True)
    def vrmpy_description(data_handle: T.handle, weight_handle: T.handle, sums_handle: T.handle) -> None:
        data = T.match_buffer(data_handle, (4,), "uint8", offset_factor=4)
        weight = T.match_buffer(weight_handle, (32, 4), weight_dtype, offset_factor=1)
        sums = T.match_buffer(sums_handle, (32,), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(sums[0:32], data[0:4], weight[0:32, 0:4])
            T.writes(sums[0:32])
            for i in T.serial(0, 32):
                for k in T.serial(0, 4):
                    with T.sblock("update"):
                        vi, vk = T.axis.remap("SR", [i, k])
                        sums[vi] = sums[vi] + T.cast(data[vk], "int32") * T.cast(weight[vi, vk], "int32")

    return vrmpy_description


def _unsigned_implementation(llvm_name: str) -> PrimFunc:
    @T.prim_func(s_tir=True)
    def vrmpyub_acc(data_handle: T.handle, weight_handle: T.handle, sums_handle: T.handle) -> None:
        data = T.match_buffer(data_handle, (4,), "uint8", offset_factor=4)
        weight = T.match_buffer(weight_handle, (32, 4), "uint8", offset_factor=1)
        sums = T.match_buffer(sums_handle, (32,), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(sums[0:32], data[0:4], weight[0:32, 0:4])
            T.writes(sums[0:32])
            word = T.decl_buffer((1,), "int32", data=data.data, elem_offset=data.elem_offset // 4)
            sums[T.ramp(T.int32(0), 1, 32)] = T.call_llvm_pure_intrin(
                T.llvm_lookup_intrinsic_id(llvm_name),
                sums[T.ramp(T.int32(0), 1, 32)],
                T.reinterpret(weight.vload([0, 0], dtype="uint8x128"), dtype="int32x32"),
                word[0],
                dtype="int32x32",
            )

    return vrmpyub_acc


def _signed_implementation(llvm_name: str) -> PrimFunc:
    @T.prim_func(s_tir=True)
    def vrmpybusv_acc(data_handle: T.handle, weight_handle: T.handle, sums_handle: T.handle) -> None:
        data = T.match_buffer(data_handle, (4,), "uint8", offset_factor=4)
        weight = T.match_buffer(weight_handle, (32, 4), "int8", offset_factor=1)
        sums = T.match_buffer(sums_handle, (32,), "int32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(sums[0:32], data[0:4], weight[0:32, 0:4])
            T.writes(sums[0:32])
            word = T.decl_buffer((1,), "int32", data=data.data, elem_offset=data.elem_offset // 4)
            sums[T.ramp(T.int32(0), 1, 32)] = T.call_llvm_pure_intrin(
                T.llvm_lookup_intrinsic_id(llvm_name),
                sums[T.ramp(T.int32(0), 1, 32)],
                T.broadcast(word[0], 32),
                T.reinterpret(weight.vload([0, 0], dtype="int8x128"), dtype="int32x32"),
                dtype="int32x32",
            )

    return vrmpybusv_acc


_IMPLEMENTATIONS = {"uint8": _unsigned_implementation, "int8": _signed_implementation}


def intrinsic_for(data_dtype: str, weight_dtype: str) -> str:
    """Give the name of the registered tensor intrinsic for these operands.

    Raises ValueError that names the supported pairs.
    """
    try:
        name, llvm_name = INTRINSICS[data_dtype, weight_dtype]
    except KeyError:
        valid = ", ".join(f"{data} x {weight}" for data, weight in INTRINSICS)
        raise ValueError(f"no vrmpy kernel for {data_dtype} x {weight_dtype}; there are {valid}") from None
    if TensorIntrin.get(name, allow_missing=True) is None:
        TensorIntrin.register(name, _description(weight_dtype), _IMPLEMENTATIONS[weight_dtype](llvm_name))
    return name
