"""The shipped ResNets, thin and for small images: their whole topology, fast."""

from __future__ import annotations

from functools import cache

from bench import workloads
from bench.workloads import Workload


@cache
def small_resnet(depth: int, *, image: int = 32, batch: int = 1) -> Workload:
    """ResNet-18 or -50 with an eighth of the channels."""
    return workloads.load(f"resnet{depth}", image=image, batch=batch, width=0.125)
