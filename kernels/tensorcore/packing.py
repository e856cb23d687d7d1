"""Names of the layouts that the tensor-core kernels read and write.

The names follow TVM's: capital letters are outer axes, a number with a small letter is an inner block of
that axis. Packing is a graph pass (pad, reshape, permute) and is none of this package's business.
"""

from __future__ import annotations

from kernels.tensorcore.tile import Tile

CONV2D_DATA = "HWNC"
CONV2D_OUT = "HWNC"
DENSE_DATA = "MK"
DENSE_OUT = "MN"


def conv2d_weight(tile: Tile) -> str:
    """Layout of a packed convolution weight: HWOI32o16i for m8n32k16, (KH, KW, OC/32, IC/16, 32, 16)."""
    return f"HWOI{tile.n}o{tile.k}i"


def dense_weight(tile: Tile) -> str:
    """Layout of a packed dense weight: NK32n16k for m8n32k16, (N/32, K/16, 32, 16)."""
    return f"NK{tile.n}n{tile.k}k"
