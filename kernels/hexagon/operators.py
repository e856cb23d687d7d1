"""Which operators of a network there are Hexagon kernels for: types, layouts, and how to make the code.

A kernel is made in two steps: `primfunc(...)` gives a plain description, which TVM compiles for any CPU, and
`schedule(description)` writes the same function for HVX; `kernels.hexagon.build.build_elf` takes either.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx import PrimFunc

from kernels.hexagon.conv2d import conv2d_primfunc, schedule_conv2d
from kernels.hexagon.dense import dense_primfunc, schedule_dense
from kernels.hexagon.depthwise import depthwise_primfunc, schedule_depthwise, sum_pool_primfunc
from kernels.hexagon.elementwise import (
    BINARY,
    UNARY,
    binary_primfunc,
    schedule_binary,
    schedule_unary,
    unary_primfunc,
)
from kernels.hexagon.max_pool import max_pool_primfunc, schedule_max_pool
from kernels.hexagon.movement import (
    broadcast_primfunc,
    concat_primfunc,
    pad_primfunc,
    permute_primfunc,
    repeat_primfunc,
    reshape_primfunc,
    schedule_movement,
    slice_primfunc,
)
from kernels.hexagon.requantize import requantize_primfunc, schedule_requantize


@dataclass(frozen=True)
class Operator:
    """One kind of kernel.

    `operators` are the names of the graph's operators that it computes; `arguments` its tensors in order, as
    "name: types, layout", the result last.
    """

    operators: tuple[str, ...]
    arguments: tuple[str, ...]
    primfunc: Callable[..., PrimFunc]
    schedule: Callable[[PrimFunc], PrimFunc]


PACKED = "NCHW32c"
PER_CHANNEL = "one element, or (1, C/32, 1, 1, 32) beside NCHW32c, (1, C) beside NC"

OPERATORS: tuple[Operator, ...] = (
    Operator(
        ("conv2d", "grouped conv2d"),
        (
            "data: uint8 or int8, NCHW{b}c with b = min(IC, 32)",
            "weight: uint8 or int8, OIHW{b/4}i32o4i; IC of one group",
            "out: int32, NCHW32c",
        ),
        conv2d_primfunc,
        schedule_conv2d,
    ),
    Operator(
        ("depthwise conv2d",),
        (
            "data: uint8 or int8, NCHW32c",
            "weight: uint8 or int8, (C/32, KH, ceil(KW / t), 32, 4), t of the 4 used: depthwise.taps_of",
            "out: int32, NCHW32c",
        ),
        depthwise_primfunc,
        schedule_depthwise,
    ),
    Operator(
        ("sum over windows", "global sum", "average pool before its division"),
        ("data: uint8 or int8, NCHW32c", "out: int32, NCHW32c"),
        sum_pool_primfunc,
        schedule_depthwise,
    ),
    Operator(
        ("dense",),
        ("data: uint8 or int8, NC, C a multiple of 4", "weight: uint8 or int8, NC32n4c", "out: int32, NC"),
        dense_primfunc,
        schedule_dense,
    ),
    Operator(
        ("bitexact.requantize",),
        (
            "data: int32, NCHW32c or NC, C a multiple of 32",
            f"multiplier: int32, {PER_CHANNEL}",
            "shift: int32, as the multiplier",
            "out: int8, uint8 or int32, as the data",
        ),
        requantize_primfunc,
        schedule_requantize,
    ),
    Operator(
        UNARY,
        ("data: int8, uint8 or int32, any layout", "out: the same (astype: any of them)"),
        unary_primfunc,
        schedule_unary,
    ),
    Operator(
        tuple(BINARY),
        (
            "data: int32, NCHW32c or NC, C a multiple of 32",
            f"other: int32, the same, or {PER_CHANNEL}",
            "out: int32, as the data",
        ),
        binary_primfunc,
        schedule_binary,
    ),
    Operator(
        ("max_pool2d",),
        ("data: int8, uint8 or int32, NCHW32c", "out: the same"),
        max_pool_primfunc,
        schedule_max_pool,
    ),
    *(
        Operator(
            operators,
            ("data: int8, uint8, int16, int32, int64 or float32, any layout", "out: the same type"),
            primfunc,
            schedule_movement,
        )
        for operators, primfunc in (
            (("reshape", "flatten", "expand_dims", "squeeze"), reshape_primfunc),
            (("permute_dims",), permute_primfunc),
            (("pad with a constant",), pad_primfunc),
            (("strided_slice",), slice_primfunc),
            (("concat",), concat_primfunc),
            (("repeat",), repeat_primfunc),
            (("broadcast_to",), broadcast_primfunc),
        )
    ),
)
