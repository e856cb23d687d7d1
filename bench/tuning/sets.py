"""Sets of single convolutions that are tuned by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.tuning.layer import TunedLayer

Sizes = tuple[int, int, int, int, int, int, int]
"""N, IC, H and W, OC, kernel, stride, padding."""


@dataclass(frozen=True)
class ConvolutionSet:
    """What it is, and the data type and sizes of each of its convolutions."""

    what: str
    convolutions: tuple[tuple[str, Sizes], ...]


HWNC = ConvolutionSet(
    "the convolutions of TVM's HWNC test, ten of int4 and one of int8, without an epilogue",
    (
        ("int4", (8, 64, 56, 64, 1, 1, 0)),
        ("int4", (8, 64, 56, 128, 3, 2, 1)),
        ("int4", (8, 64, 56, 64, 1, 2, 0)),
        ("int4", (8, 128, 28, 128, 3, 1, 1)),
        ("int4", (8, 128, 28, 256, 3, 2, 1)),
        ("int4", (8, 128, 28, 256, 1, 2, 0)),
        ("int4", (8, 256, 14, 256, 3, 1, 1)),
        ("int4", (8, 256, 14, 512, 3, 2, 1)),
        ("int4", (8, 256, 14, 512, 1, 2, 0)),
        ("int4", (8, 512, 9, 512, 3, 1, 1)),
        ("int8", (8, 64, 56, 64, 3, 1, 1)),
    ),
)
"""Of test_topi_conv2d_hwnc_tensorcore.py."""

SETS = {"hwnc": HWNC}


def layers_of_set(name: str, *, dtype: str | None = None, seed: int = 0) -> list[TunedLayer]:
    """The kernels of a set, all or those of one type."""
    from bench.tuning.layer import convolution_layer

    return [
        convolution_layer(*sizes, dtype=of, seed=seed)
        for of, sizes in SETS[name].convolutions
        if dtype in (None, of)
    ]
