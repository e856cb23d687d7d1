"""A small U-Net with seeded weights: a transposed convolution, repetition, and two concatenations."""

from __future__ import annotations

from collections.abc import Callable

from bench.workloads.networks.builder import NetworkBuilder, Tensor
from bench.workloads.networks.synthetic import load_synthetic
from bench.workloads.workload import Workload

CLASSES = 5


def load(*, batch: int = 1, image: int = 64, width: float = 1.0) -> Workload:
    """Load the network; images are (batch, 3, image, image), `image` a multiple of 4; so are the scores."""
    return load_synthetic("unet_small", _topology, batch=batch, image=image, width=width, multiple=4)


def _topology(builder: NetworkBuilder, at_width: Callable[[int], int]) -> Tensor:
    def two(name: str, source: Tensor, channels: int) -> Tensor:
        for index in (1, 2):
            convolved = builder.convolution(f"{name}_conv{index}", source, channels, 3)
            source = builder.relu(f"{name}_relu{index}", convolved)
        return source

    down1 = two("down1", builder.data, at_width(16))
    down2 = two("down2", builder.max_pool("down1_pool", down1, 2, stride=2), at_width(32))
    bottom = two("bottom", builder.max_pool("down2_pool", down2, 2, stride=2), at_width(64))
    up2 = builder.relu("up2_relu", builder.transposed("up2_transposed", bottom, at_width(32), factor=2))
    up2 = two("up2", builder.concat("up2_concat", [up2, down2]), at_width(32))
    up1 = builder.convolution("up1_conv", builder.upsample("up1_repeat", up2, factor=2), at_width(16), 3)
    up1 = builder.relu("up1_relu", up1)
    up1 = two("up1", builder.concat("up1_concat", [up1, down1]), at_width(16))
    return builder.convolution("scores", up1, CLASSES, 1, normalize=False)
