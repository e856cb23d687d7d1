"""The integer matrix instructions of tensor cores, as NumPy functions of whole matrices."""

from simulators.wmma.model import BINARY_SHAPES, SUPPORTED, Variant, binary_mma, mma

__all__ = ["BINARY_SHAPES", "SUPPORTED", "Variant", "binary_mma", "mma"]
