"""Passes over Relax graphs."""

from bench.passes.quantize import quantize, quantize_input

__all__ = ["quantize", "quantize_input"]
