"""Shapes that the tensor-core kernels take, and what padding to them costs.

The multiples are those of TVM's HWNC schedule (PR #6121), the padding that of its legalisation (PR #8222):
with zeros, which add nothing to a sum of products. Operands of different signedness, which wmma does not
multiply, have the largest mma.sync: a batch of one costs it fewer instructions than the smaller ones.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Legal:
    """What the tile of a pair of element types asks of a layer, and how its weights are packed.

    `batch`, `inputs` and `outputs` are the multiples of batch (or rows), input channels and output channels.
    """

    batch: int
    inputs: int
    outputs: int
    instruction: str = "wmma"
    """Which of PTX's instructions: "wmma" or "mma"."""

    @property
    def kernel_layout(self) -> str:
        """Layout of a convolution's packed weight, for instance HWOI8o32i."""
        return f"HWOI{self.outputs}o{self.inputs}i"

    @property
    def weight_layout(self) -> str:
        """Layout of a dense layer's packed weight, for instance NK8n32k."""
        return f"NK{self.outputs}n{self.inputs}k"

    @property
    def batched_layout(self) -> str:
        """Layout of the second operands of products of matrices, for instance BNK8n32k."""
        return f"B{self.weight_layout}"

    @property
    def shape(self) -> str:
        """Shape of the instruction, m by n by k."""
        return f"m{self.batch}n{self.outputs}k{self.inputs}"


BYTES, NIBBLES = ("int8", "uint8"), ("int4", "uint4")


def _pairs(types: tuple[str, ...], alike: Legal, mixed: Legal) -> dict[tuple[str, str], Legal]:
    return {(data, weight): alike if data == weight else mixed for data in types for weight in types}


# By the types of data and weight.
LEGAL = {
    **_pairs(
        BYTES,
        Legal(batch=8, inputs=16, outputs=32),
        Legal(batch=16, inputs=32, outputs=8, instruction="mma"),
    ),
    **_pairs(
        NIBBLES,
        Legal(batch=8, inputs=32, outputs=8),
        Legal(batch=16, inputs=64, outputs=8, instruction="mma"),
    ),
}


@dataclass(frozen=True)
class LegalPadding:
    """How much is added to batch, input channels and output channels."""

    batch: int
    inputs: int
    outputs: int
    extra_macs: float
    """Multiplications that the padding adds, in units of those that the layer has without it."""


def legal_padding(
    dtype: str, batch: int, inputs: int, outputs: int, *, weight_dtype: str | None = None
) -> LegalPadding:
    """Padding of a convolution or dense layer on data of `dtype` to a legal shape.

    The weight is of the same type unless given. ValueError names the types that have tensor-core kernels.
    """
    pair = dtype, weight_dtype or dtype
    if pair not in LEGAL:
        listed = ", ".join(f"{data}·{weight}" for data, weight in LEGAL)
        raise ValueError(f"dtypes {pair[0]}·{pair[1]} are none of {listed}")
    legal = LEGAL[pair]
    extents = (batch, legal.batch), (inputs, legal.inputs), (outputs, legal.outputs)
    extra = [-extent % multiple for extent, multiple in extents]
    ratio = 1.0
    for (extent, _), more in zip(extents, extra, strict=True):
        ratio *= (extent + more) / extent
    return LegalPadding(extra[0], extra[1], extra[2], extra_macs=ratio - 1)
