"""dense on NC32n4c weights, tensorised with vrmpy: out[m, n] = sum over k of data[m, k] * weight[n, k]."""

from tvm import te, tirx
from tvm.ir import Expr
from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from kernels.hexagon.tile import MAX_ACCUMULATORS, finish_tile, largest_divisor
from kernels.hexagon.vrmpy import INTRINSICS, intrinsic_for


def dense_primfunc(
    data_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    *,
    data_dtype: str = "uint8",
    weight_dtype: str = "int8",
) -> PrimFunc:
    """Describe a dense layer on packed weights: arguments data, weight, out.

    data (M, K) uint8, any M; weight (N/32, K/4, 32, 4) int8 or uint8, where weight[j // 32, k // 4, j % 32,
    k % 4] is the factor of input k to output j; out (M, N) int32, sums wrapping mod 2^32. TVM compiles it
    as it is for any CPU; `schedule_dense` tensorises it.

    Raises ValueError for shapes and dtypes that no kernel takes.
    """
    if (data_dtype, weight_dtype) not in INTRINSICS:
        intrinsic_for(data_dtype, weight_dtype)
    fits = (
        len(data_shape) == 2
        and len(weight_shape) == 4
        and min(*data_shape, *weight_shape) > 0
        and data_shape[1] == 4 * weight_shape[1]
        and tuple(weight_shape[2:]) == (32, 4)
    )
    if not fits:
        raise ValueError(
            f"dense takes data (M, K) and weights (N/32, K/4, 32, 4), not {data_shape}, {weight_shape}"
        )
    rows, (out_blocks, words) = data_shape[0], weight_shape[:2]

    data = te.placeholder(data_shape, data_dtype, "data")
    weight = te.placeholder(weight_shape, weight_dtype, "weight")
    word = te.reduce_axis((0, words), "word")
    byte = te.reduce_axis((0, 4), "byte")

    def multiply_add(m: tirx.Var, n: tirx.Var) -> Expr:
        factor = weight[n // 32, word, n % 32, byte]
        return te.sum(data[m, word * 4 + byte].astype("int32") * factor.astype("int32"), axis=[word, byte])

    out = te.compute((rows, 32 * out_blocks), multiply_add, "dense")
    return te.create_prim_func([data, weight, out])


def schedule_dense(primfunc: PrimFunc) -> Schedule:
    """Tensorise a function made by `dense_primfunc`; the schedule's module has it as `main`.

    A tile is the largest divisor of M up to 8, by 32 outputs.
    """
    schedule = Schedule(primfunc)
    dense = schedule.get_sblock("dense")
    data, weight, _ = primfunc.params
    accumulators = schedule.cache_write(dense, 0, "local")
    m, n, word, byte = schedule.get_loops(dense)
    m_outer, m_inner = schedule.split(m, [None, largest_divisor(int(data.shape[0]), MAX_ACCUMULATORS)])
    n_outer, n_inner = schedule.split(n, [None, 32])
    schedule.reorder(n_outer, m_outer, word, m_inner, n_inner, byte)
    schedule.reverse_compute_at(accumulators, m_outer)
    intrinsic = intrinsic_for(str(data.dtype), str(weight.dtype))
    finish_tile(schedule, dense, accumulators, first_reduction=word, rows=1, intrinsic=intrinsic)
    return schedule
