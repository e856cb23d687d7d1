"""Layers that move elements and compute nothing: their description, and their schedule through ACC.

A LOAD of int8 goes to ACC, from where a STORE writes: parts of one tensor are stored to their places in
another, once or several times.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tvm import te, tirx
from tvm.s_tir import Schedule
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T  # noqa: N812 - as TVMScript has it

from kernels.vta.alu import choose_tile
from kernels.vta.compiler import VIRTUAL_THREADS
from kernels.vta.epilogue import Extra
from kernels.vta.layers import Axis, Pooling
from kernels.vta.schedule import cut
from kernels.vta.tensorir import LOWEST
from simulators.vta.config import Config

Shape = tuple[int, ...]


class Move(NamedTuple):
    """A tensor (its number among the arguments) at a place of the result; rows and columns repeated."""

    source: int
    offset: tuple[int, int, int, int] = (0, 0, 0, 0)
    repeats: tuple[int, int] = (1, 1)


def moves_primfunc(shapes: Sequence[Shape], out: Shape, moves: Sequence[Move]) -> tirx.PrimFunc:
    """Describe moves of tensors (N/b, C/c, H, W, b, c) to a result; arguments data0, data1 ... and out.

    Between LOAD and STORE is an operation of the ALU, which changes nothing: some backends store what the
    ALU has written last, and not what was loaded.
    """
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        sources = [T.arg(f"data{index}", T.Buffer(shape, "int8")) for index, shape in enumerate(shapes)]
        result = T.arg("out", T.Buffer(out, "int8"))
        with T.sblock("root"):
            stages = [
                [T.sblock_alloc_buffer(shapes[move.source], dtype) for dtype in ("int32", "int8")]
                for move in moves
            ]
            for number, move in enumerate(moves):
                wide, narrow = stages[number]
                _block(
                    f"wide{number}",
                    wide,
                    lambda at, move=move: sources[move.source][at].astype("int32"),
                )
                _block(
                    f"narrow{number}",
                    narrow,
                    lambda at, wide=wide: te.max(wide[at], LOWEST).astype("int8"),
                )
                _move(f"move{number}", narrow, result, move)
    return builder.get()


def _block(name, target, value) -> None:  # type: ignore[no-untyped-def]
    """A block that computes every element of a buffer from its index."""
    with T.grid(*target.shape) as loops, T.sblock(name):
        index = T.axis.remap("S" * len(target.shape), list(loops))
        T.buffer_store(target, value(tuple(index)), list(index))


def _move(name, source, result, move: Move) -> None:  # type: ignore[no-untyped-def]
    """A block that writes each element of a buffer to its place, or places, of the result."""
    with T.grid(*source.shape, *move.repeats) as loops, T.sblock(name):
        *index, down, right = T.axis.remap("S" * (len(source.shape) + 2), list(loops))
        n, co, y, x, b, c = index
        places = (n, co, y * move.repeats[0] + down, x * move.repeats[1] + right)
        moved = [place + first for place, first in zip(places, move.offset, strict=True)]
        T.buffer_store(result, source[tuple(index)], [*moved, b, c])


def schedule_moves(
    function: tirx.PrimFunc, shapes: Sequence[Shape], moves: Sequence[Move], config: Config
) -> tirx.PrimFunc:
    """Schedule what `moves_primfunc` describes, for `compile_program`: tile by tile through ACC."""
    sch = Schedule(function)
    for number, move in enumerate(moves):
        batches, channels, height, width = shapes[move.source][:4]
        layer = Pooling(batches, channels, *(Axis(size, 1, 1, 0, 0) for size in (height, width)))
        tile = choose_tile(layer, Extra(), config, windows=False)
        stored = sch.get_sblock(f"move{number}")
        n, co, y, x, b, c, down, right = sch.get_loops(stored)
        chunk, co = cut(sch, co, tile.channels)
        row, y = cut(sch, y, tile.rows)
        column, x = cut(sch, x, tile.columns)
        sch.reorder(chunk, n, row, column, down, right, co, y, x, b, c)
        sch.annotate(chunk, VIRTUAL_THREADS, tile.threads)
        for name, scope in (("narrow", "local.out"), ("wide", "local.acc")):
            block = sch.get_sblock(f"{name}{number}")
            sch.compute_at(block, column, preserve_unit_loops=True)
            sch.set_scope(block, 0, scope)
        for repeated in (down, right):
            sch.unroll(repeated)
    return sch.mod["main"]
