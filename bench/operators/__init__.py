"""Relax operators that the bench adds: importing this package registers them.

`bitexact.requantize` is the fixed-point rescaling between two quantised tensors; it legalises to TensorIR.
`bitexact.conv2d` and `bitexact.dense` are convolution and dense on packed tensors, for layouts that Relax
cannot express; a kernel replaces them before legalisation.
"""

from bench.operators.convolution import conv2d
from bench.operators.dense import dense
from bench.operators.requantize import ROUNDINGS, requantize

__all__ = ["ROUNDINGS", "conv2d", "dense", "requantize"]
