"""Elementwise operators on packed tensors: of one tensor, or of two of int32."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import prod
from types import MappingProxyType

import numpy as np
from tvm import te, tirx
from tvm.ir import Expr
from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from kernels.hexagon.channels import Channels, check_parameter, element
from kernels.hexagon.description import describe, described
from kernels.hexagon.loop_nest import (
    VECTOR_BYTES,
    WORDS,
    LoopNest,
    bind,
    intrinsic,
    parallel,
    serial,
    store_vector,
    vector,
)

DTYPES = ("int8", "uint8", "int32")
_LANES = VECTOR_BYTES  # elements of one step: one vector of bytes, or four of words

# How two int32 become one. Those of the description are te's; those of a vector say that they wrap.
_Binary = Callable[[Expr, Expr], Expr]
BINARY: MappingProxyType[str, tuple[_Binary, _Binary]] = MappingProxyType(
    {
        "add": (lambda a, b: a + b, lambda a, b: intrinsic("int32x32", "vaddw", a, b)),
        "subtract": (lambda a, b: a - b, lambda a, b: intrinsic("int32x32", "vsubw", a, b)),
        "multiply": (lambda a, b: a * b, lambda a, b: intrinsic("int32x32", "vmpyiewuh.acc", *_low(a, b))),
        "maximum": (tirx.max, lambda a, b: intrinsic("int32x32", "vmaxw", a, b)),
        "minimum": (tirx.min, lambda a, b: intrinsic("int32x32", "vminw", a, b)),
        "left_shift": (lambda a, b: a << b, lambda a, b: a << b),
        "right_shift": (lambda a, b: a >> b, lambda a, b: a >> b),
    }
)
UNARY = ("relu", "clip", "astype")


def _low(a: Expr, b: Expr) -> tuple[Expr, Expr, Expr]:
    """Operands of the second half of a multiplication modulo 2^32, whose first half is the accumulator."""
    return intrinsic("int32x32", "vmpyieoh", a, b), a, b


@dataclass(frozen=True)
class Unary:
    """One operator of one tensor, of any shape."""

    operator: str
    shape: tuple[int, ...]
    dtype: str
    out_dtype: str
    low: int | None = None
    high: int | None = None

    def limits(self) -> tuple[int, int]:
        """The least and largest result that the operator gives, those of the type where it sets none."""
        info = np.iinfo(self.dtype)
        low = 0 if self.operator == "relu" else self.low
        return (int(info.min) if low is None else low), (int(info.max) if self.high is None else self.high)

    def check(self) -> None:
        """Raise ValueError where no kernel takes this."""
        if self.operator not in UNARY:
            raise ValueError(f"{self.operator!r} is none of {', '.join(UNARY)}")
        for dtype in (self.dtype, self.out_dtype):
            if dtype not in DTYPES:
                raise ValueError(f"{self.operator}: {dtype} is none of {', '.join(DTYPES)}")
        if self.operator != "astype" and self.out_dtype != self.dtype:
            raise ValueError(f"{self.operator} of {self.dtype} gives {self.dtype}, not {self.out_dtype}")
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"{self.operator}: a shape has dimensions of at least 1, not {self.shape}")
        info, (low, high) = np.iinfo(self.dtype), self.limits()
        if not info.min <= low <= high <= info.max:
            raise ValueError(f"{self.operator}: {low}..{high} is no range of {self.dtype}")


def unary_primfunc(
    operator: str,
    shape: tuple[int, ...],
    dtype: str,
    *,
    out_dtype: str | None = None,
    low: int | None = None,
    high: int | None = None,
) -> PrimFunc:
    """Describe `relu`, `clip` (to low..high) or `astype` (which wraps): arguments data, out; any shape.

    dtypes are int8, uint8 and int32; only astype changes it. Raises ValueError for anything else.
    """
    unary = Unary(operator, tuple(shape), dtype, out_dtype or dtype, low, high)
    unary.check()
    data = te.placeholder(unary.shape, dtype, "data")

    def compute(*indices: tirx.Var) -> Expr:
        if operator == "astype":
            return data(*indices).astype(unary.out_dtype)
        least, most = (tirx.const(limit, dtype) for limit in unary.limits())
        return tirx.max(tirx.min(data(*indices), most), least)

    out = te.compute(unary.shape, compute, operator)
    return describe(te.create_prim_func([data, out]), "unary", asdict(unary))


def schedule_unary(primfunc: PrimFunc) -> PrimFunc:
    """Write a function described by `unary_primfunc` for HVX: 128 elements at a time, in parallel."""
    unary = Unary(**described(primfunc, "unary"))

    def apply(value: Expr, lanes: int) -> Expr:
        if unary.operator == "astype":
            return value.astype(f"{unary.out_dtype}x{lanes}" if lanes > 1 else unary.out_dtype)
        for limit, choose in zip(unary.limits(), (tirx.max, tirx.min), strict=True):
            constant = tirx.const(limit, unary.dtype)
            value = choose(value, T.broadcast(constant, lanes) if lanes > 1 else constant)
        return value

    with LoopNest() as nest:
        data, out = nest.tensors(("data", unary.shape, unary.dtype), ("out", unary.shape, unary.out_dtype))
        source, results = data.view(unary.dtype), out.view(unary.out_dtype)
        whole, rest = divmod(prod(unary.shape), _LANES)
        if whole:
            with parallel(whole) as index:
                value = vector(source, index * _LANES, _LANES)
                store_vector(results, index * _LANES, apply(value, _LANES), _LANES)
        if rest:
            with serial(rest) as index:
                at = index + whole * _LANES
                T.buffer_store(results, apply(source[at], 1), [at])
    return nest.function


@dataclass(frozen=True)
class Binary:
    """One operator of two int32 tensors, the second of which may have one value for each channel, or one."""

    operator: str
    shape: tuple[int, ...]
    other_shape: tuple[int, ...]

    def check(self) -> None:
        """Raise ValueError where no kernel takes this."""
        if self.operator not in BINARY:
            raise ValueError(f"{self.operator!r} is none of {', '.join(BINARY)}")
        Channels.of(self.shape)
        if self.other_shape != self.shape:
            check_parameter(f"the second operand of {self.operator}", self.other_shape, self.shape)


def binary_primfunc(operator: str, shape: tuple[int, ...], other_shape: tuple[int, ...]) -> PrimFunc:
    """Describe an operator of BINARY on int32, modulo 2^32: arguments data, other, out.

    data is NCHW32c or NC (channels a multiple of 32). other has the same shape, or one value for each
    channel, (1, C/32, 1, 1, 32) or (1, C), or one element. Amounts of shifts are 0 to 31.

    Raises ValueError for anything else.
    """
    binary = Binary(operator, tuple(shape), tuple(other_shape))
    binary.check()
    data = te.placeholder(binary.shape, "int32", "data")
    other = te.placeholder(binary.other_shape, "int32", "other")
    combine = BINARY[operator][0]
    out = te.compute(
        binary.shape,
        lambda *i: combine(data(*i), element(other, binary.other_shape, i)),
        operator,
    )
    return describe(te.create_prim_func([data, other, out]), "binary", asdict(binary))


def schedule_binary(primfunc: PrimFunc) -> PrimFunc:
    """Write a function described by `binary_primfunc` for HVX: 32 words at a time, in parallel."""
    binary = Binary(**described(primfunc, "binary"))
    channels = Channels.of(binary.shape)
    combine = BINARY[binary.operator][1]
    with LoopNest() as nest:
        data, other, out = (
            memory.view("int32")
            for memory in nest.tensors(
                ("data", binary.shape, "int32"),
                ("other", binary.other_shape, "int32"),
                ("out", binary.shape, "int32"),
            )
        )

        def write(at: Expr, second: Expr) -> None:
            store_vector(out, at * WORDS, combine(bind(vector(data, at * WORDS)), second))

        if binary.other_shape == binary.shape:
            with parallel(channels.outer * channels.blocks * channels.inner) as index:
                write(index, bind(vector(other, index * WORDS)))
        elif not check_parameter("other", binary.other_shape, binary.shape):
            with parallel(channels.outer * channels.blocks * channels.inner) as index:
                write(index, bind(T.broadcast(other[0], WORDS)))
        else:
            with parallel(channels.blocks) as block:
                second = bind(vector(other, block * WORDS))
                with serial(channels.outer) as n, serial(channels.inner) as index:
                    write((n * channels.blocks + block) * channels.inner + index, second)
    return nest.function
