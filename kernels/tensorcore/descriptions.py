"""What loading, storing and unpacking one tile mean: the descriptions by which TVM matches intrinsics."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T  # noqa: N812 - TVMScript's own spelling

from kernels.tensorcore.operands import per_item, unpacked


def copy(rows: int, columns: int, dtype: str, source_scope: str, target_scope: str) -> tirx.PrimFunc:
    """Describe a copy of a tile, element by element."""

    @T.prim_func(s_tir=True)
    def copy(source: T.handle, target: T.handle) -> None:
        source_tile = T.match_buffer(
            source, (rows, columns), dtype, align=16, offset_factor=4, scope=source_scope
        )
        target_tile = T.match_buffer(
            target, (rows, columns), dtype, align=16, offset_factor=4, scope=target_scope
        )
        with T.sblock("root"):
            T.reads(source_tile[0:rows, 0:columns])
            T.writes(target_tile[0:rows, 0:columns])
            for i, j in T.grid(rows, columns):
                with T.sblock("copy"):
                    row, column = T.axis.remap("SS", [i, j])
                    target_tile[row, column] = source_tile[row, column]

    return copy


def transposition(rows: int, columns: int, dtype: str, source_scope: str, target_scope: str) -> tirx.PrimFunc:
    """Describe a copy of a tile to one of `columns` rows."""

    @T.prim_func(s_tir=True)
    def transpose(source: T.handle, target: T.handle) -> None:
        source_tile = T.match_buffer(
            source, (rows, columns), dtype, align=16, offset_factor=4, scope=source_scope
        )
        target_tile = T.match_buffer(
            target, (columns, rows), dtype, align=16, offset_factor=4, scope=target_scope
        )
        with T.sblock("root"):
            T.reads(source_tile[0:rows, 0:columns])
            T.writes(target_tile[0:columns, 0:rows])
            for i, j in T.grid(rows, columns):
                with T.sblock("copy"):
                    row, column = T.axis.remap("SS", [i, j])
                    target_tile[column, row] = source_tile[row, column]

    return transpose


def unpacking(rows: int, columns: int, dtype: str, *, scope: str, held: str) -> tirx.PrimFunc:
    """Describe the elements of a tile of words in shared memory, in a fragment of elements of type `held`."""
    words = columns // per_item(dtype)

    @T.prim_func(s_tir=True)
    def unpack(source: T.handle, target: T.handle) -> None:
        source_tile = T.match_buffer(
            source, (rows, words), "int32", align=16, offset_factor=words, scope="shared"
        )
        target_tile = T.match_buffer(
            target, (rows, columns), held, align=16, offset_factor=columns, scope=scope
        )
        with T.sblock("root"):
            T.reads(source_tile[0:rows, 0:words])
            T.writes(target_tile[0:rows, 0:columns])
            for i, j in T.grid(rows, columns):
                with T.sblock("unpack"):
                    row, column = T.axis.remap("SS", [i, j])
                    target_tile[row, column] = T.Cast(
                        held, unpacked(source_tile[row, column // 8], column, dtype)
                    )

    return unpack


def segmented(rows: int, columns: int, dtype: str, *, stored: str, scope: str, held: str) -> tirx.PrimFunc:
    """Describe a tile that lies in shared memory in segments of 16 bytes: (segments, rows, 16 bytes).

    `held` is the type of the fragment's elements; where `stored` is int32, eight of them share a word.
    """
    packing = per_item(dtype)
    width = 16 // (4 if packing > 1 else 1)
    segments = columns // packing // width

    @T.prim_func(s_tir=True)
    def unpack(source: T.handle, target: T.handle) -> None:
        source_tile = T.match_buffer(
            source, (segments, rows, width), stored, align=16, offset_factor=width, scope="shared"
        )
        target_tile = T.match_buffer(
            target, (rows, columns), held, align=16, offset_factor=columns, scope=scope
        )
        with T.sblock("root"):
            T.reads(source_tile[0:segments, 0:rows, 0:width])
            T.writes(target_tile[0:rows, 0:columns])
            for i, j in T.grid(rows, columns):
                with T.sblock("unpack"):
                    row, column = T.axis.remap("SS", [i, j])
                    target_tile[row, column] = unpacked(
                        source_tile[column // 8 // width, row, column // 8 % width], column, dtype
                    )

    @T.prim_func(s_tir=True)
    def gather(source: T.handle, target: T.handle) -> None:
        source_tile = T.match_buffer(
            source, (segments, rows, width), stored, align=16, offset_factor=width, scope="shared"
        )
        target_tile = T.match_buffer(
            target, (rows, columns), held, align=16, offset_factor=columns, scope=scope
        )
        with T.sblock("root"):
            T.reads(source_tile[0:segments, 0:rows, 0:width])
            T.writes(target_tile[0:rows, 0:columns])
            for i, j in T.grid(rows, columns):
                with T.sblock("gather"):
                    row, column = T.axis.remap("SS", [i, j])
                    target_tile[row, column] = source_tile[column // width, row, column % width]

    return unpack if packing > 1 else gather
