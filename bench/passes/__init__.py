"""Passes over Relax graphs."""

from bench.passes.graph_pack import graph_pack
from bench.passes.quantize import quantize, quantize_input

__all__ = ["graph_pack", "quantize", "quantize_input"]
