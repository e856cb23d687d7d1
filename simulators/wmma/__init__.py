"""The integer matrix instructions of tensor cores, as NumPy functions of whole matrices."""

from simulators.wmma.model import SUPPORTED, Variant, mma

__all__ = ["SUPPORTED", "Variant", "mma"]
