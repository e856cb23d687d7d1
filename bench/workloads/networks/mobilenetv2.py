"""MobileNetV2 with seeded weights on synthetic images: depthwise convolutions, ReLU6, linear bottlenecks."""

from __future__ import annotations

from collections.abc import Callable

from bench.workloads.networks.builder import NetworkBuilder, Tensor
from bench.workloads.networks.synthetic import load_synthetic
from bench.workloads.workload import Workload

# Sandler et al. (2018), table 2: expansion, channels, blocks, stride of the first.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
CLASSES = 1000


def load(*, batch: int = 1, image: int = 224, width: float = 1.0) -> Workload:
    """Load the network; images are (batch, 3, image, image), `image` a multiple of 8."""
    return load_synthetic("mobilenetv2", _topology, batch=batch, image=image, width=width, multiple=8)


def _topology(builder: NetworkBuilder, at_width: Callable[[int], int]) -> Tensor:
    result = builder.convolution("conv1", builder.data, at_width(32), 3, stride=2)
    result = builder.relu6("relu1", result)
    for stage, (expansion, channels, count, first) in enumerate(_STAGES):
        for index in range(count):
            result = _block(
                builder,
                f"layer{stage + 1}_{index}",
                result,
                at_width(channels),
                expansion=expansion,
                stride=1 if index else first,
                residual=index > 0,
            )
    result = builder.relu6("relu2", builder.convolution("conv2", result, at_width(1280), 1))
    return builder.dense("dense", builder.global_average("avgpool", result), CLASSES)


def _block(
    builder: NetworkBuilder,
    name: str,
    source: Tensor,
    channels: int,
    *,
    expansion: int,
    stride: int,
    residual: bool,
) -> Tensor:
    """Expand, filter each channel, project: linear, so that its result has both signs."""
    inner, result = source.channels * expansion, source
    if expansion != 1:
        result = builder.relu6(f"{name}_relu1", builder.convolution(f"{name}_expand", source, inner, 1))
    result = builder.convolution(f"{name}_depthwise", result, inner, 3, stride=stride, groups=inner)
    result = builder.relu6(f"{name}_relu2", result)
    result = builder.convolution(f"{name}_project", result, channels, 1, gain=0.15 if residual else 1.0)
    return builder.add(f"{name}_residual", result, source) if residual else result
