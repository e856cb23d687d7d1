"""Hexagon HVX: NumPy models of its instructions, and the client of functions that run under qemu-hexagon."""

from simulators.hvx.instructions import vdmpyhvsat, vrmpy

__all__ = ["vdmpyhvsat", "vrmpy"]
