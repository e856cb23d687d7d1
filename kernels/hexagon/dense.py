"""dense on NC32n4c weights, in vrmpy: out[m, n] = sum over k of data[m, k] * weight[n, k]."""

from collections.abc import Sequence
from functools import partial

from tvm import te, tirx
from tvm.ir import Expr
from tvm.tirx import PrimFunc

from kernels.hexagon.byte_sums import ByteSums
from kernels.hexagon.description import describe, described
from kernels.hexagon.loop_nest import (
    WORDS,
    LoopNest,
    Memory,
    Register,
    bind,
    even_parts,
    intrinsic,
    minus_128_times,
    parallel,
    serial,
    store_vector,
    vector,
    word_vector,
    wrapping_add,
)
from kernels.hexagon.tile import ACCUMULATORS, accumulate, loaded_type
from kernels.hexagon.vrmpy import (
    check_dtypes,
    is_compensated,
    multiply_add,
    multiply_add_signed,
    unsigned_weights,
)

_FEW_ROWS = 3  # up to here, shifting the weights costs more than it saves
_CHUNK = 8  # words of data in the innermost loop


def dense_primfunc(
    data_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    *,
    data_dtype: str = "uint8",
    weight_dtype: str = "int8",
) -> PrimFunc:
    """Describe a dense layer on packed weights: arguments data, weight, out.

    data (M, K) uint8 or int8, any M; weight (N/32, K/4, 32, 4) int8 or uint8, where
    weight[j // 32, k // 4, j % 32, k % 4] is the factor of input k to output j; out (M, N) int32, sums
    wrapping mod 2^32. TVM compiles the description as it is for any CPU; `schedule_dense` writes the same
    function for HVX.

    Raises ValueError for shapes and dtypes that no kernel takes.
    """
    check_dtypes(data_dtype, weight_dtype)
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
    parameters = {
        "data_shape": tuple(data_shape),
        "weight_shape": tuple(weight_shape),
        "data_dtype": data_dtype,
        "weight_dtype": weight_dtype,
    }
    return describe(te.create_prim_func([data, weight, out]), "dense", parameters)


def schedule_dense(primfunc: PrimFunc) -> PrimFunc:
    """Write a function described by `dense_primfunc` for HVX.

    A tile is up to 8 rows by 64 outputs, or 16 by 32. Where the weights are signed, the accumulators begin
    with -128 times the sum of the row, unless there are so few rows or words that the weights are better
    used as they are.

    Raises ValueError for any other function.
    """
    return _write(**described(primfunc, "dense"))


def takes_signed_weights(data_shape: Sequence[int], weight_dtype: str) -> bool:
    """Whether the weights of a dense layer on data (M, K) are signed and multiplied as they are."""
    rows, inputs = data_shape
    # The sum of a row is made of whole vectors, and costs as much as a block of outputs where there are few.
    return is_compensated(weight_dtype) and (rows <= _FEW_ROWS or inputs // 4 < WORDS)


def _write(
    *, data_shape: tuple[int, int], weight_shape: tuple[int, ...], data_dtype: str, weight_dtype: str
) -> PrimFunc:
    rows, (out_blocks, words) = data_shape[0], weight_shape[:2]
    signed = is_compensated(weight_dtype)
    direct = takes_signed_weights(data_shape, weight_dtype)
    multiply = multiply_add_signed if direct else multiply_add
    with LoopNest() as nest:
        data, weight, out = nest.tensors(
            ("data", data_shape, data_dtype),
            ("weight", weight_shape, weight_dtype),
            ("out", (rows, 32 * out_blocks), "int32"),
        )
        sums = None
        if signed and not direct:
            weight = unsigned_weights(nest, weight, weight_shape, weight_dtype)
            sums = _row_sums(nest, data, rows, words, data_dtype)

        def tile(first_row: Expr, height: int, first_block: Expr, blocks: int) -> None:
            if sums is None:
                begin: Sequence[Expr] = [word_vector(0)] * height
            else:
                totals = sums.view("int32")
                begin = [bind(word_vector(totals[(first_row + m) * WORDS])) for m in range(height)]
            registers = [[Register(value) for value in begin] for _ in range(blocks)]
            loaded, loaded_bytes = loaded_type(words)
            factors, source = weight.view("int32"), data.view(loaded)
            origin = bind(first_row * (words * 4 // loaded_bytes))
            block_origins = [bind((first_block + i) * words * WORDS) for i in range(blocks)]

            def chunk_of(first_word: Expr, count: int) -> None:
                accumulate(
                    registers,
                    weights=factors,
                    weight_begins=[bind(o + first_word * WORDS) for o in block_origins],
                    data=source,
                    data_begin=bind(origin + first_word * 4 // loaded_bytes),
                    data_offsets=[m * words * 4 for m in range(height)],
                    loaded_bytes=loaded_bytes,
                    words=count,
                    multiply_add=partial(multiply, data_dtype=data_dtype),
                )

            if words >= _CHUNK:
                with serial(words // _CHUNK) as chunk:
                    chunk_of(chunk * _CHUNK, _CHUNK)
            if words % _CHUNK:
                chunk_of(tirx.const(words - words % _CHUNK, "int32"), words % _CHUNK)
            results = out.view("int32")
            for i in range(blocks):
                for m in range(height):
                    to = (first_row + m) * out_blocks + first_block + i
                    store_vector(results, to * WORDS, registers[i][m].value)

        for begin_block, blocks, count in even_parts(out_blocks, 4 if rows <= _FEW_ROWS else 2):
            with parallel(count) as part:
                first_block = bind(begin_block + part * blocks)
                for begin_row, height, row_count in even_parts(
                    rows, ACCUMULATORS // max(blocks, 2 if direct else 1)
                ):
                    with serial(row_count) as row:
                        tile(bind(begin_row + row * height), height, first_block, blocks)
    return nest.function


def _row_sums(nest: LoopNest, data: Memory, rows: int, words: int, dtype: str) -> Memory:
    """Write -128 times the sum of each row, of at least a vector, to every word of a vector."""
    memory = nest.scratch(rows * WORDS * 4)
    whole, rest = divmod(words, WORDS)
    with parallel(rows) as row:
        source, sums = data.view("int32"), memory.view("int32")
        total = ByteSums(whole + bool(rest), data_dtype=dtype)
        begin = bind(row * words)
        with serial(whole) as index:
            total.add(vector(source, begin + index * WORDS))
        if rest:
            # The last vector of the row, without those of its words that were added already.
            last = bind(vector(source, begin + words - WORDS))
            total.add(bind(intrinsic("int32x32", "valignb", word_vector(0), last, 4 * (WORDS - rest))))
        value = bind(total.value)
        for distance in (64, 32, 16, 8, 4):
            value = bind(wrapping_add(value, intrinsic("int32x32", "vror", value, distance)))
        store_vector(sums, row * WORDS, minus_128_times(value))
    return memory
