"""A small detector with seeded weights, whose last convolution has 255 channels, as in YOLO: 3 x (80 + 5)."""

from __future__ import annotations

from collections.abc import Callable

from bench.workloads.networks.builder import NetworkBuilder, Tensor
from bench.workloads.networks.synthetic import load_synthetic
from bench.workloads.workload import Workload

ANCHORS, CLASSES = 3, 80


def load(*, batch: int = 1, image: int = 64, width: float = 1.0) -> Workload:
    """Load the network; images are (batch, 3, image, image), `image` a multiple of 8."""
    return load_synthetic("yolo_head", _topology, batch=batch, image=image, width=width, multiple=8)


def _topology(builder: NetworkBuilder, at_width: Callable[[int], int]) -> Tensor:
    result = builder.data
    for index, channels in enumerate((16, 32, 64)):
        convolved = builder.convolution(f"conv{index + 1}", result, at_width(channels), 3, stride=2)
        result = builder.relu(f"relu{index + 1}", convolved)
    narrow = builder.relu("relu4", builder.convolution("conv4", result, at_width(32), 1))
    result = builder.relu("relu5", builder.convolution("conv5", narrow, at_width(64), 3))
    return builder.convolution("head", result, ANCHORS * (CLASSES + 5), 1, normalize=False)
