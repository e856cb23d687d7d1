"""What the networks with seeded weights have in common: their options and their images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.workloads.images import smooth_images
from bench.workloads.networks.builder import NetworkBuilder, Tensor
from bench.workloads.workload import Workload

CALIBRATION_IMAGES = 4
_SEED = 0
_IMAGE_SEED, _CALIBRATION_SEED = 1, 2

Topology = Callable[[NetworkBuilder, Callable[[int], int]], Tensor]
"""Emits a network on `builder.data`; the second argument gives channels at the width asked for."""


def load_synthetic(
    name: str,
    topology: Topology,
    *,
    batch: int,
    image: int,
    width: float,
    multiple: int,
) -> Workload:
    """Build one network for square images of side `image`, with seeded images and calibration images.

    `multiple` divides the side of the images (the network halves it so often); `width` thins or widens the
    channels of inner layers, to whole eights.
    """
    if batch < 1:
        raise ValueError(f"batch {batch} of {name} is not above 0")
    if image < multiple or image % multiple:
        raise ValueError(f"image {image} of {name} is not a multiple of {multiple}")
    if not 0 < width <= 4:
        raise ValueError(f"width {width} of {name} is not in 0..4")

    def at_width(channels: int) -> int:
        return max(8, int(np.rint(channels * width / 8)) * 8)

    builder = NetworkBuilder(batch=batch, channels=3, image=image, seed=_SEED)
    module = builder.finish(topology(builder, at_width))
    return Workload(
        name=name,
        module=module,
        images=smooth_images(batch, 3, image, seed=_IMAGE_SEED),
        labels=None,
        calibration=smooth_images(CALIBRATION_IMAGES, 3, image, seed=_CALIBRATION_SEED),
    )
