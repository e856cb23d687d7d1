"""Hexagon HVX: NumPy models of its instructions, and the client of functions that run under qemu-hexagon."""

from simulators.hvx.instructions import vrmpy

__all__ = ["vrmpy"]
