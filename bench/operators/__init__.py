"""Relax operators that the bench adds: importing this package registers them.

`bitexact.requantize` is the fixed-point rescaling between two quantised tensors; it legalises to TensorIR.
`bitexact.conv2d`, `bitexact.depthwise_conv2d`, `bitexact.dense` and `bitexact.batch_matmul` work on packed
tensors, for layouts that Relax cannot express; a kernel replaces them before legalisation.
`bitexact.pack_int4` and `bitexact.unpack_int4` convert between 4-bit values and the words that kernels read;
they legalise to TensorIR.
"""

from bench.operators.batch_matmul import batch_matmul
from bench.operators.convolution import conv2d
from bench.operators.dense import dense
from bench.operators.depthwise import depthwise_conv2d
from bench.operators.int4 import pack_int4, unpack_int4
from bench.operators.requantize import ROUNDINGS, requantize

__all__ = [
    "ROUNDINGS",
    "batch_matmul",
    "conv2d",
    "dense",
    "depthwise_conv2d",
    "pack_int4",
    "requantize",
    "unpack_int4",
]
