"""The integer matrix instructions of tensor cores, as NumPy functions of whole matrices."""

from simulators.wmma.model import BINARY_SHAPES, SUPPORTED, Variant, binary_mma, mma, mma_chain

__all__ = ["BINARY_SHAPES", "SUPPORTED", "Variant", "binary_mma", "mma", "mma_chain"]
