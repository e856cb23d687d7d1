"""Writing loop nests of 128-byte vectors in TensorIR: what every Hexagon kernel here is made of.

A `LoopNest` is one function. Its tensors and scratch memory are seen as flat arrays of int32 words (or of
another type), 32 words being one vector register. Loops over tiles are unrolled by the Python that writes
them, so that each accumulator has a name and LLVM keeps it in a register.

TVM tells LLVM no more alignment than that of one element, and LLVM turns a vector load of unknown alignment
into two and a `valign`. So the alignment of 128 bytes, which the function server gives every tensor and
workspace, is stated here by the attribute `storage_alignment`.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import prod

import tvm
from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from kernels.hexagon.plain import call_plain, is_plain, is_vector, keep, poison

VECTOR_BYTES = 128
WORDS = 32  # of a vector

_BYTES = {"int8": 1, "uint8": 1, "int16": 2, "int32": 4, "int64": 8, "float32": 4}


def round_up(number: int, multiple: int) -> int:
    """Give the smallest multiple of `multiple` that is at least `number`."""
    return -(-number // multiple) * multiple


def even_parts(extent: int, largest: int) -> list[tuple[int, int, int]]:
    """Cut `extent` into as few parts of at most `largest` as there can be, as equal as they can be.

    Returns (begin, length, count) for one or two runs of parts of equal length.
    """
    parts = -(-extent // largest)
    short, longer = divmod(extent, parts)
    runs = [(0, short + 1, longer), (longer * (short + 1), short, parts - longer)]
    return [run for run in runs if run[2]]


class Memory:
    """A tensor or a workspace, addressed in elements of any type."""

    def __init__(self, pointer: Expr, size: int) -> None:
        self._pointer, self._size = pointer, size

    def view(self, dtype: str) -> tirx.Var:
        """Give a flat buffer of this type over the memory.

        All views share one pointer: TVM tells LLVM that memory behind different pointers does not overlap.
        """
        return T.decl_buffer((self._size // _BYTES[dtype],), dtype, data=self._pointer)


class LoopNest:
    """One function under construction: use as a context manager, then take `function`."""

    def __init__(self) -> None:
        self._frames = ExitStack()
        self._builder = IRBuilder()

    def __enter__(self) -> "LoopNest":
        self._frames.enter_context(self._builder)
        self._frames.enter_context(T.prim_func(s_tir=True))
        T.func_name("main")
        T.func_attr({"tirx.noalias": True})
        return self

    def __exit__(self, *exception: object) -> None:
        self._frames.__exit__(*exception)  # type: ignore[arg-type]

    @property
    def function(self) -> PrimFunc:
        """The finished function."""
        return self._builder.get()

    def tensors(self, *descriptions: tuple[str, Sequence[int], str]) -> list[Memory]:
        """Declare all arguments (name, shape, dtype), in order; before anything else."""
        buffers = [T.arg(name, T.buffer(tuple(shape), dtype)) for name, shape, dtype in descriptions]
        for buffer in buffers:
            self._state_alignment(buffer)
        sizes = [prod(shape) * _BYTES[dtype] for _, shape, dtype in descriptions]
        return [Memory(buffer.data, size) for buffer, size in zip(buffers, sizes, strict=True)]

    def scratch(self, size: int) -> Memory:
        """Allocate a workspace of `size` bytes, 128-byte aligned, of unknown content, for the whole function.

        The allocation is called here, and not left to TVM, which replaces the variable of a workspace and
        so loses the attribute that states its alignment.
        """
        size = round_up(size, VECTOR_BYTES)
        allocate = tvm.ir.Op.get("tirx.TVMBackendAllocWorkspace")
        cpu, device, code, bits = (tirx.const(value, "int32") for value in (1, 0, 2, 8))
        pointer_type = tvm.ir.PointerType(tvm.ir.PrimType("uint8"))
        arguments = [cpu, device, tirx.const(size, "uint64"), code, bits]
        pointer = T.Bind(tvm.ir.Call(allocate, arguments, ret_ty=pointer_type))
        with T.If(tirx.isnullptr(pointer)), T.Then():
            T.evaluate(tirx.op.tvm_throw_last_error())
        self._state_alignment(pointer)
        if is_plain():
            poison(pointer, size)
        return Memory(pointer, size)

    def _state_alignment(self, what: Expr) -> None:
        """Say that a tensor or a workspace begins at a multiple of a vector, where that is so."""
        if not is_plain():
            self._frames.enter_context(T.attr(what, "storage_alignment", VECTOR_BYTES))


def parallel(extent: int) -> "T.frame.ForFrame":
    """Open a loop whose iterations run in any order, or at once."""
    return T.parallel(0, extent)


def serial(extent: int) -> "T.frame.ForFrame":
    """Open a loop in order."""
    return T.serial(0, extent)


@contextmanager
def rolled_or_not(extent: int, *, unroll: bool) -> Iterator[list[Expr | int]]:
    """Give the indices of a loop that is written out here (all of them), or opened (its variable)."""
    if unroll:
        yield list(range(extent))
    else:
        with T.serial(0, extent) as index:
            yield [index]


def vector(buffer: tirx.Var, start: Expr | int, lanes: int = WORDS) -> Expr:
    """Load `lanes` consecutive elements."""
    return buffer[T.ramp(start, 1, lanes)]


def store_vector(buffer: tirx.Var, start: Expr | int, value: Expr, lanes: int = WORDS) -> None:
    """Store `lanes` consecutive elements."""
    T.buffer_store(buffer, value, [T.ramp(start, 1, lanes)])


def word_vector(value: Expr | int) -> Expr:
    """Give a vector of 32 equal words."""
    return T.broadcast(tirx.const(value, "int32") if isinstance(value, int) else value, WORDS)


def bind(value: Expr) -> Expr:
    """Compute a value once, here."""
    if not isinstance(value, Expr):
        return value
    return keep(value) if is_plain() and is_vector(value) else T.Bind(value)


class Register:
    """A vector register of 32 words that can be assigned again: an accumulator."""

    def __init__(self, value: Expr) -> None:
        self._buffer = T.alloc_buffer((WORDS,), "int32", scope="global")
        self.assign(value)

    def assign(self, value: Expr) -> None:
        """Give it a new value."""
        store_vector(self._buffer, 0, value)

    @property
    def value(self) -> Expr:
        """Its present value."""
        return vector(self._buffer, 0)

    def word(self, index: int) -> Expr:
        """Give one of its words."""
        return self._buffer[index]


def intrinsic(dtype: str, name: str, *operands: Expr | int) -> Expr:
    """Call an HVX instruction by its LLVM name, without `llvm.hexagon.V6.` and `.128B`."""
    values = [tirx.const(value, "int32") if isinstance(value, int) else value for value in operands]
    if is_plain():
        return call_plain(dtype, name, values)
    return T.call_llvm_pure_intrin(dtype, f"llvm.hexagon.V6.{name}.128B", *values)


def wrapping_add(left: Expr, right: Expr) -> Expr:
    """Add int32x32 modulo 2^32: TVM lets LLVM assume that its own additions do not overflow."""
    return intrinsic("int32x32", "vaddw", left, right)


def minus_128_times(value: Expr) -> Expr:
    """Multiply int32x32 by -128, modulo 2^32."""
    return intrinsic("int32x32", "vsubw", word_vector(0), value << word_vector(7))
