"""Passes over Relax graphs."""

from bench.passes.float_ends import float_ends
from bench.passes.fuse_vta import fuse_vta
from bench.passes.graph_pack import graph_pack
from bench.passes.quantize import quantize, quantize_input

__all__ = ["float_ends", "fuse_vta", "graph_pack", "quantize", "quantize_input"]
