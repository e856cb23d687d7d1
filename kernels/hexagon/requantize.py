"""int32 to a quantised tensor by an exact fixed-point multiplication with a named rounding.

    out = saturate(round(data * multiplier * 2^(shift - 31)) + zero_point)

The product is exact, in 64 bits, for every int32 operand and every shift from -31 to 31, and so is the
addition of the zero point; what `bitexact.requantize` says is computed here for every input.
"""

from dataclasses import asdict, dataclass

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
    Memory,
    Register,
    bind,
    intrinsic,
    parallel,
    serial,
    store_vector,
    vector,
    word_vector,
)
from kernels.hexagon.wide import Wide, keep, rounded_shift, signed, unsigned, words

ROUNDINGS = ("half_up", "half_even", "double", "floor")
OUT_DTYPES = ("int8", "uint8", "int32")
_LARGEST_SHIFT = 31


@dataclass(frozen=True)
class Requantization:
    """Shapes and attributes of one requantise."""

    data_shape: tuple[int, ...]
    parameter_shape: tuple[int, ...]
    zero_point: int = 0
    rounding: str = "half_up"
    out_dtype: str = "int8"

    def check(self) -> None:
        """Raise ValueError where no kernel takes this."""
        Channels.of(self.data_shape)
        check_parameter("the multiplier", self.parameter_shape, self.data_shape)
        if self.rounding not in ROUNDINGS:
            raise ValueError(f"rounding {self.rounding!r} is none of {', '.join(ROUNDINGS)}")
        if self.out_dtype not in OUT_DTYPES:
            raise ValueError(f"out_dtype {self.out_dtype!r} is none of {', '.join(OUT_DTYPES)}")
        if not -(2**31) <= self.zero_point < 2**31:
            raise ValueError(f"the zero point {self.zero_point} is no int32")


def requantize_primfunc(
    data_shape: tuple[int, ...],
    parameter_shape: tuple[int, ...],
    *,
    zero_point: int = 0,
    rounding: str = "half_up",
    out_dtype: str = "int8",
) -> PrimFunc:
    """Describe a requantise: arguments data, multiplier, shift (int32), out.

    data is NCHW32c or NC (channels a multiple of 32). multiplier and shift have one shape: one element, or
    one for each channel, (1, C/32, 1, 1, 32) or (1, C). A shift outside -31..31 acts as the nearest end. The
    roundings are half_up, half_even, floor, and double: half up at 2^-31 and again after a right shift.

    Raises ValueError for shapes and attributes that no kernel takes.
    """
    r = Requantization(tuple(data_shape), tuple(parameter_shape), zero_point, rounding, out_dtype)
    r.check()
    data = te.placeholder(r.data_shape, "int32", "data")
    multiplier = te.placeholder(r.parameter_shape, "int32", "multiplier")
    shift = te.placeholder(r.parameter_shape, "int32", "shift")

    def compute(*indices: tirx.Var) -> Expr:
        factor = element(multiplier, r.parameter_shape, indices).astype("int64")
        bits = element(shift, r.parameter_shape, indices)
        bits = tirx.min(tirx.max(bits, -_LARGEST_SHIFT), _LARGEST_SHIFT).astype("int64")
        value = _round(data(*indices).astype("int64") * factor, bits, rounding) + tirx.const(
            zero_point, "int64"
        )
        limits = np.iinfo(out_dtype)
        low, high = (tirx.const(int(end), "int64") for end in (limits.min, limits.max))
        return tirx.max(tirx.min(value, high), low).astype(out_dtype)

    out = te.compute(r.data_shape, compute, "requantize")
    return describe(te.create_prim_func([data, multiplier, shift, out]), "requantize", asdict(r))


def _round(product: Expr, shift: Expr, rounding: str) -> Expr:
    one, zero = tirx.const(1, "int64"), tirx.const(0, "int64")

    def half_up(value: Expr, right: Expr) -> Expr:
        return (value + ((one << right) >> one)) >> right

    if rounding == "double":
        first = half_up(product, tirx.const(31, "int64") - tirx.max(shift, zero))
        return half_up(first, tirx.max(-shift, zero))
    right = tirx.const(31, "int64") - shift
    if rounding == "floor":
        return product >> right
    if rounding == "half_even":
        bias = ((one << right) >> one) - one + ((product >> right) & one)
        return tirx.Select(right > zero, (product + bias) >> right, product)
    return half_up(product, right)


def schedule_requantize(primfunc: PrimFunc) -> PrimFunc:
    """Write a function described by `requantize_primfunc` for HVX.

    Four vectors of words make one of bytes. Raises ValueError for any other function.
    """
    r = Requantization(**described(primfunc, "requantize"))
    with LoopNest() as nest:
        _Writer(
            r,
            *nest.tensors(
                ("data", r.data_shape, "int32"),
                ("multiplier", r.parameter_shape, "int32"),
                ("shift", r.parameter_shape, "int32"),
                ("out", r.data_shape, r.out_dtype),
            ),
        ).write()
    return nest.function


class _Writer:
    """Writes a requantise over vectors of 32 words, counted through the whole tensor."""

    def __init__(
        self, r: Requantization, data: Memory, multiplier: Memory, shift: Memory, out: Memory
    ) -> None:
        self.r, self.out = r, out
        self.data, self.multiplier, self.shift = (m.view("int32") for m in (data, multiplier, shift))
        self.group = VECTOR_BYTES // WORDS if r.out_dtype != "int32" else 1

    def write(self) -> None:
        c = Channels.of(self.r.data_shape)
        if not check_parameter("the multiplier", self.r.parameter_shape, self.r.data_shape):
            whole, rest = divmod(c.outer * c.blocks * c.inner, self.group)
            with parallel(whole) as index:
                self.vectors(index * self.group, [self.parameters(None)] * self.group)
            self.vectors(whole * self.group, [self.parameters(None)] * rest)
        elif c.inner == 1:  # Each vector of a row has its own parameters.
            whole, rest = divmod(c.blocks, self.group)
            with parallel(whole) as index:
                parameters = [self.parameters(index * self.group + i) for i in range(self.group)]
                with serial(c.outer) as n:
                    self.vectors(n * c.blocks + index * self.group, parameters)
            with serial(c.outer) as n:
                begin = whole * self.group
                self.vectors(n * c.blocks + begin, [self.parameters(begin + i) for i in range(rest)])
        else:
            whole, rest = divmod(c.inner, self.group)
            with parallel(c.blocks) as block:
                of_block = self.parameters(block)
                with serial(c.outer) as n:
                    first = bind((n * c.blocks + block) * c.inner)
                    with serial(whole) as index:
                        self.vectors(first + index * self.group, [of_block] * self.group)
                    self.vectors(first + whole * self.group, [of_block] * rest)

    def parameters(self, block: Expr | int | None) -> tuple[Expr, Expr]:
        """Load the multipliers and shifts of 32 channels, or those for all."""
        if block is None:
            return (
                bind(T.broadcast(self.multiplier[0], WORDS)),
                bind(T.broadcast(self.shift[0], WORDS)),
            )
        return bind(vector(self.multiplier, block * WORDS)), bind(vector(self.shift, block * WORDS))

    def vectors(self, first: Expr | int, parameters: list[tuple[Expr, Expr]]) -> None:
        """Requantise and store as many vectors as there are parameters."""
        if not parameters:
            return
        first = bind(first) if isinstance(first, Expr) else tirx.const(first, "int32")
        values = [
            self.requantized(bind(vector(self.data, (first + i) * WORDS)), *pair)
            for i, pair in enumerate(parameters)
        ]
        if self.group == 1:
            store_vector(self.out.view("int32"), first * WORDS, values[0])
        elif len(values) == self.group:
            packed = T.reinterpret(f"{self.r.out_dtype}x{VECTOR_BYTES}", self.packed(values))
            store_vector(self.out.view(self.r.out_dtype), first * WORDS, packed, VECTOR_BYTES)
        else:
            # The vectors that are missing do not matter: only the first words of the packed one are stored.
            partial = Register(self.packed((values * self.group)[: self.group]))
            results = self.out.view("int32")
            for word in range(len(values) * WORDS // 4):
                T.buffer_store(results, partial.word(word), [first * (WORDS // 4) + word])

    def requantized(self, data: Expr, multiplier: Expr, shift: Expr) -> Expr:
        """Give int32x32, within the limits of int32; bytes saturate when they are packed."""
        shift = signed(
            keep(
                unsigned(tirx.min(tirx.max(shift, word_vector(-_LARGEST_SHIFT)), word_vector(_LARGEST_SHIFT)))
            )
        )
        product = Wide.product(data, multiplier)
        if self.r.rounding == "double":
            left = keep(unsigned(tirx.max(shift, word_vector(0))))
            once = rounded_shift(product, keep(words(31) - left), "half_up")
            value = rounded_shift(
                once, keep(unsigned(tirx.max(word_vector(0) - shift, word_vector(0)))), "half_up"
            )
        else:
            value = rounded_shift(product, keep(unsigned(word_vector(31) - shift)), self.r.rounding)
        if self.r.zero_point:
            value = value + Wide.extend(words(self.r.zero_point))
        return signed(keep(value.saturate()))

    def packed(self, values: list[Expr]) -> Expr:
        """Saturate four vectors of words to one of bytes, as int32x32."""
        a, b, c, d = values
        halves = [bind(intrinsic("int32x32", "vpackwh.sat", high, low)) for high, low in ((b, a), (d, c))]
        name = "vpackhub.sat" if self.r.out_dtype == "uint8" else "vpackhb.sat"
        return bind(intrinsic("int32x32", name, halves[1], halves[0]))
