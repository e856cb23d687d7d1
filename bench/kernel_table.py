"""The table of kernels: what each computes, on which layouts and with which instruction."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KernelEntry:
    """One kernel that the bench can lower a layer to."""

    target: str
    kernel: str
    data: str
    weight: str
    result: str
    instruction: str


KERNELS = (
    KernelEntry(
        "tensorcore", "conv2d", "HWNC int8/uint8", "HWOI32o16i, the same", "HWNC int32", "wmma.mma m8n32k16"
    ),
    KernelEntry(
        "tensorcore", "dense", "NC int8/uint8", "NK32n16k, the same", "NC int32", "wmma.mma m8n32k16"
    ),
    KernelEntry(
        "hexagon",
        "conv2d, conv2d_transpose",
        "NCHW{b}c int8/uint8",
        "OIHW{b/4}i32o4i int8/uint8",
        "NCHW32c int32",
        "vrmpyub, vrmpybus",
    ),
    KernelEntry(
        "hexagon",
        "depthwise conv2d",
        "NCHW32c int8/uint8",
        "taps of a row, int8/uint8",
        "NCHW32c int32",
        "vrmpybusv, vrmpybv, vrmpyubv",
    ),
    KernelEntry(
        "hexagon",
        "dense",
        "NC int8/uint8",
        "NC32n4c int8/uint8",
        "NC int32",
        "vrmpyub, vrmpybus, vrmpybusv, vrmpybv",
    ),
    KernelEntry("hexagon", "requantize, elementwise, pooling", "NCHW32c, NC", "-", "the same", "HVX"),
    KernelEntry(
        "hexagon", "pad, reshape, permute, slice, concat, repeat", "any layout", "-", "any layout", "HVX"
    ),
    KernelEntry("vta", "conv2d", "NCHW1n16c int8", "OIHW16o16i int8", "NCHW1n16c int8", "GEMM, ALU"),
    KernelEntry(
        "vta", "conv2d_transpose", "NCHW1n16c int8", "IOHW16o16i int8", "NCHW1n16c int8", "GEMM, ALU"
    ),
    KernelEntry("vta", "dense", "NC1n16c int8", "NC16n16c int8", "NC1n16c int8", "GEMM, ALU"),
    KernelEntry("vta", "pool2d", "NCHW1n16c int8", "-", "NCHW1n16c int8", "ALU"),
    KernelEntry("vta", "elementwise", "NCHW1n16c int8", "-", "NCHW1n16c int8", "ALU"),
    KernelEntry("vta", "concatenate", "NCHW1n16c int8", "-", "NCHW1n16c int8", "LOAD, STORE"),
    KernelEntry("vta", "upsample", "NCHW1n16c int8", "-", "NCHW1n16c int8", "LOAD, STORE"),
    KernelEntry("vta", "pad", "NCHW1n16c int8", "-", "NCHW1n16c int8", "LOAD, STORE"),
)
