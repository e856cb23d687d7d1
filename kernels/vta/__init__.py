"""Programs for VTA, compiled ahead of time. `tensorir` describes the layers, each file schedules one."""

from kernels.vta.concatenate import concatenate
from kernels.vta.conv2d import conv2d
from kernels.vta.conv2d_transpose import conv2d_transpose
from kernels.vta.dense import dense
from kernels.vta.elementwise import elementwise
from kernels.vta.epilogue import Residual
from kernels.vta.pad import pad
from kernels.vta.pool2d import pool2d
from kernels.vta.upsample import upsample

__all__ = [
    "Residual",
    "concatenate",
    "conv2d",
    "conv2d_transpose",
    "dense",
    "elementwise",
    "pad",
    "pool2d",
    "upsample",
]
