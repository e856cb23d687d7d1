"""Operators that move elements and change none: pad, reshape, permute, slice, concatenate, repeat.

Each is a number of copies: boxes of elements, with a stride in the source and in the result for each of their
loops. Loops that continue each other are made one, so that most of a copy is runs of consecutive bytes. What
is not, is mostly the way into a blocked layout or out of it: a number of runs whose elements take turns.
Vectors of these are zipped, or unzipped, by vshuff and vdeal.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import gcd, prod

import numpy as np
from tvm import te, tirx, topi
from tvm.ir import Expr
from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812

from kernels.hexagon.description import describe, described
from kernels.hexagon.loop_nest import (
    VECTOR_BYTES,
    LoopNest,
    Memory,
    Register,
    bind,
    intrinsic,
    parallel,
    serial,
    store_vector,
    vector,
)

DTYPES = ("int8", "uint8", "int16", "int32", "int64", "float32")
MAX_SOURCES = 15  # a call of the function server takes 16 tensors

_TURNS = (2, 4, 8, 16, 32)  # so many runs are zipped
_UNITS = {8: "int64", 4: "int32", 2: "int16", 1: "int8"}
Shape = tuple[int, ...]
_Step = Callable[[Expr | int], None]


@dataclass(frozen=True)
class Loop:
    """One loop of a copy; the steps are elements."""

    extent: int
    source_step: int
    result_step: int


@dataclass(frozen=True)
class Copy:
    """A box of elements that goes from a source to the result, the loops outermost first."""

    source: int
    source_begin: int
    result_begin: int
    loops: tuple[Loop, ...]

    def merged(self) -> "Copy":
        """Give the same copy with as few loops as possible, the one of the smallest step last."""
        loops: list[Loop] = []
        # Of loops with the same step in the result at most one has more than one iteration.
        for loop in sorted(self.loops, key=lambda each: -each.result_step):
            if loop.extent == 1:
                continue
            outer = loops[-1] if loops else Loop(1, 0, 0)
            if (outer.source_step, outer.result_step) == (
                loop.extent * loop.source_step,
                loop.extent * loop.result_step,
            ):
                loops[-1] = Loop(outer.extent * loop.extent, loop.source_step, loop.result_step)
            else:
                loops.append(loop)
        return Copy(self.source, self.source_begin, self.result_begin, tuple(loops))


@dataclass(frozen=True)
class Movement:
    """Where the elements of a result come from; `fill` is the value of those that no copy writes."""

    shapes: tuple[Shape, ...]
    out_shape: Shape
    dtype: str
    copies: tuple[Copy, ...]
    fill: float | None = None


def _described(
    name: str,
    inputs: Sequence[te.Tensor],
    result: te.Tensor,
    copies: Sequence[Copy],
    fill: float | None = None,
) -> PrimFunc:
    shapes = tuple(tuple(int(extent) for extent in each.shape) for each in inputs)
    out_shape = tuple(int(extent) for extent in result.shape)
    movement = Movement(shapes, out_shape, str(result.dtype), tuple(copies), fill)
    # The result is to have the name of the operator, and topi names it otherwise.
    out = te.compute(out_shape, result, name)
    return describe(te.create_prim_func([*inputs, out]), "movement", asdict(movement))


def _placeholder(operator: str, shape: Shape, dtype: str, name: str = "data") -> te.Tensor:
    if dtype not in DTYPES:
        raise ValueError(f"{operator}: {dtype} is none of {', '.join(DTYPES)}")
    if not shape or min(shape) < 1:
        raise ValueError(f"{operator}: a shape has dimensions of at least 1, not {shape}")
    return te.placeholder(shape, dtype, name)


def _steps(shape: Shape) -> Shape:
    """Give the distance of two neighbours along each dimension."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _box(
    extents: Shape,
    source_steps: Shape,
    result_steps: Shape,
    *,
    begin: int = 0,
    into: int = 0,
    source: int = 0,
) -> Copy:
    return Copy(source, begin, into, tuple(map(Loop, extents, source_steps, result_steps)))


def reshape_primfunc(shape: Shape, out_shape: Shape, dtype: str) -> PrimFunc:
    """Describe a reshape: arguments data, out. Raises ValueError for shapes of other numbers of elements."""
    data = _placeholder("reshape", shape, dtype)
    if not out_shape or min(out_shape) < 1 or prod(shape) != prod(out_shape):
        raise ValueError(f"reshape: {shape} and {out_shape} have other numbers of elements")
    copy = _box((prod(shape),), (1,), (1,))
    return _described("reshape", [data], topi.reshape(data, out_shape), [copy])


def permute_primfunc(shape: Shape, axes: Sequence[int], dtype: str) -> PrimFunc:
    """Describe a transposition, out dimension i being dimension axes[i] of data: arguments data, out."""
    data = _placeholder("permute_dims", shape, dtype)
    axes = tuple(axes)
    if sorted(axes) != list(range(len(shape))):
        raise ValueError(f"permute_dims: {axes} is no order of the axes of {shape}")
    out_shape, steps = tuple(shape[axis] for axis in axes), _steps(shape)
    copy = _box(out_shape, tuple(steps[axis] for axis in axes), _steps(out_shape))
    return _described("permute_dims", [data], topi.transpose(data, axes), [copy])


def pad_primfunc(
    shape: Shape, widths: Sequence[tuple[int, int]], dtype: str, *, value: float = 0
) -> PrimFunc:
    """Describe a padding with a constant, by (before, after) of each dimension: arguments data, out."""
    data = _placeholder("pad", shape, dtype)
    if len(widths) != len(shape) or any(len(width) != 2 or min(width) < 0 for width in widths):
        raise ValueError(f"pad: {widths} are not two numbers from 0 for each dimension of {shape}")
    if np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        if value != int(value) or not info.min <= value <= info.max:
            raise ValueError(f"pad: {value} is not a value of {dtype}")
        value = int(value)
    before, after = ([width[end] for width in widths] for end in (0, 1))
    padded = topi.nn.pad(data, before, after, tirx.const(value, dtype))
    steps = _steps(tuple(int(extent) for extent in padded.shape))
    into = sum(width * step for width, step in zip(before, steps, strict=True))
    copy = _box(shape, _steps(shape), steps, into=into)
    return _described("pad", [data], padded, [copy], value if any(map(sum, widths)) else None)


def slice_primfunc(
    shape: Shape, begin: Sequence[int], out_shape: Shape, step: Sequence[int], dtype: str
) -> PrimFunc:
    """Describe a slice: arguments data, out, whose element i is element begin + i * step of data.

    The steps may be negative. Raises ValueError where the slice leads outside the data.
    """
    data = _placeholder("strided_slice", shape, dtype)
    begin, step = tuple(begin), tuple(step)
    last = [first + (extent - 1) * by for first, extent, by in zip(begin, out_shape, step, strict=True)]
    inside = all(
        min(a, b) >= 0 and max(a, b) < extent for a, b, extent in zip(begin, last, shape, strict=True)
    )
    if min(out_shape) < 1 or not inside:
        raise ValueError(f"strided_slice: {begin} to {last} by {step} is not inside {shape}")
    steps = _steps(shape)
    taken = te.compute(
        out_shape,
        lambda *index: data(*(first + i * by for first, i, by in zip(begin, index, step, strict=True))),
        "slice",
    )
    copy = _box(
        out_shape,
        tuple(by * distance for by, distance in zip(step, steps, strict=True)),
        _steps(out_shape),
        begin=sum(first * distance for first, distance in zip(begin, steps, strict=True)),
    )
    return _described("strided_slice", [data], taken, [copy])


def concat_primfunc(shapes: Sequence[Shape], axis: int, dtype: str) -> PrimFunc:
    """Describe a concatenation along an axis: arguments data0, data1, … and out."""
    shapes = [tuple(shape) for shape in shapes]
    if not 1 <= len(shapes) <= MAX_SOURCES:
        raise ValueError(f"concat: {len(shapes)} tensors; 1 to {MAX_SOURCES} can be joined")
    data = [_placeholder("concat", shape, dtype, f"data{index}") for index, shape in enumerate(shapes)]
    first = shapes[0]
    if not 0 <= axis < len(first) or len({(*s[:axis], *s[axis + 1 :]) for s in shapes}) > 1:
        raise ValueError(f"concat: {shapes} cannot be joined along axis {axis}")
    out_shape = (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])
    steps = _steps(out_shape)
    begins = [sum(shape[axis] for shape in shapes[:index]) * steps[axis] for index in range(len(shapes))]
    copies = [
        _box(shape, _steps(shape), steps, into=into, source=index)
        for index, (shape, into) in enumerate(zip(shapes, begins, strict=True))
    ]
    return _described("concat", data, topi.concatenate(data, axis), copies)


def repeat_primfunc(shape: Shape, repeats: int, axis: int, dtype: str) -> PrimFunc:
    """Describe the repetition of each element along an axis: arguments data, out."""
    data = _placeholder("repeat", shape, dtype)
    if repeats < 1 or not 0 <= axis < len(shape):
        raise ValueError(f"repeat: {repeats} times along axis {axis} of {shape}")
    apart = (*shape[: axis + 1], repeats, *shape[axis + 1 :])
    steps = _steps(shape)
    copy = _box(apart, (*steps[: axis + 1], 0, *steps[axis + 1 :]), _steps(apart))
    return _described("repeat", [data], topi.repeat(data, repeats, axis), [copy])


def broadcast_primfunc(shape: Shape, out_shape: Shape, dtype: str) -> PrimFunc:
    """Describe a broadcast: arguments data, out."""
    data = _placeholder("broadcast_to", shape, dtype)
    full = (1,) * (len(out_shape) - len(shape)) + shape
    if len(full) != len(out_shape) or any(a not in (1, b) for a, b in zip(full, out_shape, strict=True)):
        raise ValueError(f"broadcast_to: {shape} does not broadcast to {out_shape}")
    steps = tuple(0 if extent == 1 else step for extent, step in zip(full, _steps(full), strict=True))
    copy = _box(out_shape, steps, _steps(out_shape))
    return _described("broadcast_to", [data], topi.broadcast_to(data, out_shape), [copy])


def schedule_movement(primfunc: PrimFunc) -> PrimFunc:
    """Write a function described in this module for HVX.

    Runs of at least 128 bytes are copied by vectors, at any address, the last of a run overlapping the one
    before; shorter ones by the largest word that fits them. Elements that take turns are moved by vectors
    where 2, 4, 8, 16 or 32 runs of at least 128 bytes do. The outermost loop is parallel.

    Raises ValueError for any other function.
    """
    movement = _movement(described(primfunc, "movement"))
    with LoopNest() as nest:
        *sources, out = nest.tensors(
            *((f"data{index}", shape, movement.dtype) for index, shape in enumerate(movement.shapes)),
            ("out", movement.out_shape, movement.dtype),
        )
        size = np.dtype(movement.dtype).itemsize
        if movement.fill is not None:
            _fill(
                out, prod(movement.out_shape) * size, np.dtype(movement.dtype).type(movement.fill).tobytes()
            )
        for copy in movement.copies:
            _write(sources[copy.source], out, copy.merged(), size)
    return nest.function


def _movement(parameters: dict) -> Movement:
    copies = tuple(
        Copy(**{**copy, "loops": tuple(Loop(**loop) for loop in copy["loops"])})
        for copy in parameters["copies"]
    )
    return Movement(**{**parameters, "copies": copies})


def _fill(out: Memory, size: int, element: bytes) -> None:
    """Write an element everywhere."""
    unit = max(len(element), 4 if size % 4 == 0 else 1)
    dtype, lanes = _UNITS[unit], VECTOR_BYTES // unit
    value = tirx.const(int.from_bytes(element * (unit // len(element)), "little", signed=True), dtype)
    to = out.view(dtype)

    def store(at: Expr | int) -> None:
        store_vector(to, at, T.broadcast(value, lanes), lanes)

    _by_vectors(size // unit, lanes, store, lambda at: T.buffer_store(to, value, [at]), split=True)


def _write(source: Memory, out: Memory, copy: Copy, size: int) -> None:
    """Write one merged copy of elements of `size` bytes."""
    step = _taking_turns(source, out, copy, size) or _runs(source, out, copy, size)
    _nest(step, [*step.outer], tirx.const(copy.source_begin, "int32"), tirx.const(copy.result_begin, "int32"))


@dataclass(frozen=True)
class _Inner:
    """What is within the `outer` loops of a copy: given first elements, and whether its loop is outermost."""

    outer: tuple[Loop, ...]
    write: Callable[[Expr, Expr, bool], None]


def _nest(inner: _Inner, loops: list[Loop], begin: Expr, into: Expr, *, outermost: bool = True) -> None:
    if not loops:
        return inner.write(begin, into, outermost)
    loop = loops.pop(0)
    with (parallel if outermost else serial)(loop.extent) as index:
        there, here = bind(begin + index * loop.source_step), bind(into + index * loop.result_step)
        _nest(inner, loops, there, here, outermost=False)
    return None


def _runs(source: Memory, out: Memory, copy: Copy, size: int) -> _Inner:
    """Copy runs of consecutive elements; of one element where there is no more."""
    outer, run = copy.loops, 1
    if outer and outer[-1].source_step == outer[-1].result_step == 1:
        outer, run = outer[:-1], outer[-1].extent
    distances = [step for loop in outer for step in (loop.source_step, loop.result_step)]
    unit = gcd(8, size * gcd(run, copy.source_begin, copy.result_begin, *distances))
    if run * size >= VECTOR_BYTES:
        unit = min(unit, 4)
    dtype, lanes = _UNITS[unit], VECTOR_BYTES // unit

    def write(begin: Expr, into: Expr, outermost: bool) -> None:
        data, to = source.view(dtype), out.view(dtype)
        # The first elements of a run are a whole number of units.
        there, here = (at * size // unit if size > unit else at // (unit // size) for at in (begin, into))
        there, here = bind(there), bind(here)
        _by_vectors(
            run * size // unit,
            lanes,
            lambda at: store_vector(to, here + at, vector(data, there + at, lanes), lanes),
            lambda at: T.buffer_store(to, data[there + at], [here + at]),
            split=outermost,
        )

    return _Inner(outer, write)


def _taking_turns(source: Memory, out: Memory, copy: Copy, size: int) -> _Inner | None:
    """Zip runs whose elements take turns in the result, or unzip those that take turns in the source."""
    if len(copy.loops) < 2:
        return None
    lanes = VECTOR_BYTES // size
    *outer, one, other = copy.loops
    if not one.source_step == other.result_step == 1:
        return None
    zipped = one.result_step == other.extent and other.extent in _TURNS
    if not zipped and (other.source_step != one.extent or one.extent not in _TURNS):
        return None
    along, across = (one, other) if zipped else (other, one)
    if along.extent < lanes:
        return None

    def write(begin: Expr, into: Expr, outermost: bool) -> None:
        data, to = source.view(_UNITS[size]), out.view(_UNITS[size])

        def chunk(first: Expr | int) -> None:
            places = [
                (begin + first + run * across.source_step, into + first * across.extent + run * lanes)
                if zipped
                else (begin + first * across.extent + run * lanes, into + first + run * across.result_step)
                for run in range(across.extent)
            ]
            vectors = [
                Register(T.reinterpret("int32x32", vector(data, place, lanes))).value for place, _ in places
            ]
            moved = _zip(vectors, size) if zipped else _unzip(vectors, size)
            for (_, place), value in zip(places, moved, strict=True):
                store_vector(to, place, T.reinterpret(f"{_UNITS[size]}x{lanes}", value), lanes)

        with (parallel if outermost else serial)(along.extent // lanes) as index:
            chunk(bind(index * lanes))
        if along.extent % lanes:
            chunk(along.extent - lanes)

    return _Inner(tuple(outer), write)


def _pair(name: str, high: Expr, low: Expr, size: int) -> tuple[Expr, Expr]:
    """Shuffle or deal two vectors by elements of `size` bytes; the low one of the two results first."""
    pair = bind(intrinsic("int32x64", name, high, low, -size))
    return bind(intrinsic("int32x32", "lo", pair)), bind(intrinsic("int32x32", "hi", pair))


def _zip(vectors: list[Expr], size: int) -> list[Expr]:
    """Give the first elements of all vectors, then the second ones, and so on."""
    if len(vectors) == 1:
        return vectors
    even, odd = _zip(vectors[::2], size), _zip(vectors[1::2], size)
    return [part for low, high in zip(even, odd, strict=True) for part in _pair("vshuffvdd", high, low, size)]


def _unzip(vectors: list[Expr], size: int) -> list[Expr]:
    """Undo `_zip`."""
    if len(vectors) == 1:
        return vectors
    dealt = [
        _pair("vdealvdd", high, low, size) for low, high in zip(vectors[::2], vectors[1::2], strict=True)
    ]
    even, odd = _unzip([low for low, _ in dealt], size), _unzip([high for _, high in dealt], size)
    return [part for pair in zip(even, odd, strict=True) for part in pair]


def _by_vectors(count: int, lanes: int, whole: _Step, single: _Step, *, split: bool) -> None:
    """Do something for `count` consecutive elements, by vectors where there is one; `split`: in parallel."""
    if count >= lanes:
        with (parallel if split else serial)(count // lanes) as index:
            whole(index * lanes)
        if count % lanes:
            whole(count - lanes)
    elif count <= 8:
        for index in range(count):
            single(index)
    else:
        with serial(count) as index:
            single(index)
