"""ResNet-50 with seeded weights on synthetic images (ImageNet's shapes; --image for another size)."""

from __future__ import annotations

from bench.workloads.networks.resnet import resnet
from bench.workloads.networks.synthetic import load_synthetic
from bench.workloads.workload import Workload


def load(*, batch: int = 1, image: int = 224, width: float = 1.0) -> Workload:
    """Load the network; images are (batch, 3, image, image), `image` a multiple of 8."""
    return load_synthetic(
        "resnet50", resnet((3, 4, 6, 3), bottleneck=True), batch=batch, image=image, width=width, multiple=8
    )
