"""Programs for VTA, generated ahead of time. `tensorir` describes the same layers for TVM."""

from kernels.vta.conv2d import conv2d
from kernels.vta.dense import dense

__all__ = ["conv2d", "dense"]
