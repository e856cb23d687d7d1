"""Passes over Relax graphs."""

from bench.passes.convert_layout import convert_layout
from bench.passes.count_layers import count_layers
from bench.passes.float_ends import float_ends
from bench.passes.fuse_vta import fuse_vta
from bench.passes.graph_pack import graph_pack
from bench.passes.layout_config import LayoutConfig
from bench.passes.quantize import quantize, quantize_input
from bench.passes.recast import recast
from bench.passes.vrmpy_legalize import vrmpy_legalize

__all__ = [
    "LayoutConfig",
    "convert_layout",
    "count_layers",
    "float_ends",
    "fuse_vta",
    "graph_pack",
    "quantize",
    "quantize_input",
    "recast",
    "vrmpy_legalize",
]
