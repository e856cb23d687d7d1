"""The layers whose kernels and simulators are measured: shapes by name."""

from __future__ import annotations

from dataclasses import dataclass

from bench.efficiency import LayerShapes


@dataclass(frozen=True)
class NamedLayer:
    """One layer: its name in tables, its shapes, and the types of data and weight (VTA: int8)."""

    name: str
    shapes: LayerShapes
    data: str = "int8"
    weight: str = "int8"


def convolution(  # noqa: PLR0917 - the order in which TVM's tests list them
    batch: int, inputs: int, size: int, outputs: int, kernel: int, stride: int, padding: int
) -> LayerShapes:
    """A square convolution."""
    return LayerShapes(
        (batch, inputs, size, size),
        (outputs, inputs, kernel, kernel),
        (stride, stride),
        (padding, padding, padding, padding),
    )


HWNC = (
    (64, 56, 64, 1, 1, 0),
    (64, 56, 128, 3, 2, 1),
    (64, 56, 64, 1, 2, 0),
    (128, 28, 128, 3, 1, 1),
    (128, 28, 256, 3, 2, 1),
    (128, 28, 256, 1, 2, 0),
    (256, 14, 256, 3, 1, 1),
    (256, 14, 512, 3, 2, 1),
    (256, 14, 512, 1, 2, 0),
    (512, 9, 512, 3, 1, 1),
)
"""The int4 workloads of TVM's HWNC test: input channels, height and width, output channels, kernel, stride,
padding; at batch 8."""
HWNC_INT8 = (64, 56, 64, 3, 1, 1)
"""Its int8 workload."""

RESNET18 = {
    "C2": (64, 56, 64, 3, 1, 1),
    "C3": (64, 56, 128, 3, 2, 1),
    "C4": (64, 56, 128, 1, 2, 0),
    "C5": (128, 28, 128, 3, 1, 1),
    "C6": (128, 28, 256, 3, 2, 1),
    "C7": (128, 28, 256, 1, 2, 0),
    "C8": (256, 14, 256, 3, 1, 1),
    "C9": (256, 14, 512, 3, 2, 1),
    "C10": (256, 14, 512, 1, 2, 0),
    "C11": (512, 7, 512, 3, 1, 1),
}
"""The convolutions of ResNet-18 by VTA's names, at batch 1."""

RESNET50 = (
    (64, 56, 256, 3, 1, 1),
    (64, 56, 64, 1, 1, 0),
    (256, 56, 64, 1, 1, 0),
    (512, 7, 512, 3, 1, 1),
    (512, 7, 2048, 1, 1, 0),
    (3, 224, 64, 7, 2, 3),
    (128, 28, 128, 3, 2, 1),
)
"""Convolutions of ResNet-50's kinds, at batch 1."""
CLASSIFIER = LayerShapes((128, 2048), (1000, 2048))
"""ResNet-50's dense layer, for 128 images."""

KERNELS: dict[str, list[NamedLayer]] = {
    "tensorcore": [
        *(NamedLayer(f"int4 {row}", convolution(8, *row), "int4", "int4") for row in HWNC),
        NamedLayer(f"int8 {HWNC_INT8}", convolution(8, *HWNC_INT8)),
    ],
    "hexagon": [
        *(NamedLayer(f"conv {row}", convolution(1, *row), "uint8") for row in RESNET50),
        NamedLayer("dense 128 * 1000 * 2048", CLASSIFIER, "uint8"),
    ],
    "vta": [NamedLayer(name, convolution(1, *row)) for name, row in RESNET18.items()],
}
"""Of each target the layers whose kernels are held to limits."""

SPEED = {
    "convolution": convolution(8, *HWNC_INT8),
    "dense": LayerShapes((256, 1024), (1024, 1024)),
}
"""The two layers on which simulators and models are timed, the same for all targets."""
