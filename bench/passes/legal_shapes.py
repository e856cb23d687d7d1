"""Shapes that the tensor-core kernels take, and what padding to them costs.

The multiples are those of TVM's HWNC schedule (PR #6121), the padding that of its legalisation (PR #8222):
with zeros, which add nothing to a sum of products.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Legal:
    """What the tile of one element type asks of a layer, and how its weights are packed.

    `batch`, `inputs` and `outputs` are the multiples of batch (or rows), input channels and output channels.
    """

    batch: int
    inputs: int
    outputs: int

    @property
    def kernel_layout(self) -> str:
        """Layout of a convolution's packed weight, for instance HWOI8o32i."""
        return f"HWOI{self.outputs}o{self.inputs}i"

    @property
    def weight_layout(self) -> str:
        """Layout of a dense layer's packed weight, for instance NK8n32k."""
        return f"NK{self.outputs}n{self.inputs}k"

    @property
    def instruction(self) -> str:
        """Shape of the WMMA instruction, m by n by k."""
        return f"m{self.batch}n{self.outputs}k{self.inputs}"


LEGAL = {
    "int8": Legal(batch=8, inputs=16, outputs=32),
    "uint8": Legal(batch=8, inputs=16, outputs=32),
    "int4": Legal(batch=8, inputs=32, outputs=8),
    "uint4": Legal(batch=8, inputs=32, outputs=8),
}


@dataclass(frozen=True)
class LegalPadding:
    """How much is added to batch, input channels and output channels."""

    batch: int
    inputs: int
    outputs: int
    extra_macs: float
    """Multiplications that the padding adds, in units of those that the layer has without it."""


def legal_padding(dtype: str, batch: int, inputs: int, outputs: int) -> LegalPadding:
    """Padding of a convolution or dense layer on data of `dtype` to a legal shape.

    ValueError names the types that have tensor-core kernels.
    """
    if dtype not in LEGAL:
        raise ValueError(f"dtype {dtype!r} is none of {', '.join(LEGAL)}")
    legal = LEGAL[dtype]
    extents = (batch, legal.batch), (inputs, legal.inputs), (outputs, legal.outputs)
    extra = [-extent % multiple for extent, multiple in extents]
    ratio = 1.0
    for (extent, _), more in zip(extents, extra, strict=True):
        ratio *= (extent + more) / extent
    return LegalPadding(extra[0], extra[1], extra[2], extra_macs=ratio - 1)
