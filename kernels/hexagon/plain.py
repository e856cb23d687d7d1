"""HVX instructions as calls of plain C, for the device `host`: the same loop nests run on any CPU.

Within `plain_code` the functions of this package write each instruction as a call of a C function of its name
(runtime/instructions.c), with pointers for vectors. Nothing else of a schedule changes, so a loop, an address
or a layout that is wrong on Hexagon is wrong on this CPU too.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from tvm import tirx
from tvm.ir import Expr, TensorLoad
from tvm.tirx.script import builder as T  # noqa: N812

from kernels.hexagon.toolchain import RUNTIME, compile_c_for_host

INSTRUCTIONS = frozenset(
    re.findall(r"^(?:INSTRUCTION|REDUCING\w+)\((\w+)", (RUNTIME / "instructions.c").read_text(), re.MULTILINE)
)
"""The names of the instructions that there is C for, with _ for a dot."""

_PREFIX = "bitexact_hvx_"
_plain: ContextVar[bool] = ContextVar("plain", default=False)


@contextmanager
def plain_code() -> Iterator[None]:
    """Write functions for this CPU, with C in place of HVX; they have to be linked with `plain_object`."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def is_plain() -> bool:
    """Whether functions are being written for this CPU."""
    return _plain.get()


def plain_object() -> bytes:
    """Compile the C that plain functions call, for this machine. Raises ToolchainError."""
    return compile_c_for_host((RUNTIME / "instructions.c").read_text())


def call_plain(dtype: str, name: str, operands: Sequence[Expr]) -> Expr:
    """Call the C of an instruction, here; give its result, a vector or a pair of vectors.

    Raises ValueError for an instruction without C.
    """
    c_name = name.replace(".", "_")
    if c_name not in INSTRUCTIONS:
        raise ValueError(
            f"no C for {name} in runtime/instructions.c; there are {', '.join(sorted(INSTRUCTIONS))}"
        )
    lanes = int(dtype.partition("x")[2])
    result = T.alloc_buffer((lanes,), dtype.partition("x")[0], scope="global")
    arguments = [_address(operand) if is_vector(operand) else operand for operand in operands]
    T.evaluate(T.call_extern("int32", _PREFIX + c_name, result.data, *arguments))
    return result[T.ramp(0, 1, lanes)]


def poison(pointer: Expr, size: int) -> None:
    """Fill a workspace with what it holds in the guest."""
    T.evaluate(T.call_extern("int32", "bitexact_poison", pointer, tirx.const(size, "int32")))


def keep(value: Expr) -> Expr:
    """Compute a vector once, here, in memory, from which instructions take it."""
    element, _, lanes = str(value.ty.dtype).partition("x")
    kept = T.alloc_buffer((int(lanes),), element, scope="global")
    T.buffer_store(kept, value, [T.ramp(0, 1, int(lanes))])
    return kept[T.ramp(0, 1, int(lanes))]


def is_vector(value: Expr) -> bool:
    """Whether an expression has more than one lane."""
    return "x" in str(value.ty.dtype)


def _address(value: Expr) -> Expr:
    """Where a vector lies; one that is computed is put somewhere first."""
    loaded = value if isinstance(value, TensorLoad) else keep(value)
    (ramp,) = loaded.indices
    if isinstance(ramp.base, tirx.IntImm) and ramp.base.value == 0:
        # By its pointer: of a buffer whose first element alone has its address taken TVM keeps one element.
        return loaded.source.data
    return T.address_of(loaded.source[ramp.base])
