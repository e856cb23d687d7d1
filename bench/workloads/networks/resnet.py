"""ResNet (He et al., 2016) for ImageNet: 18 and 50 layers, with the stride in the 3x3 of a bottleneck."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.workloads.networks.builder import NetworkBuilder, Tensor
from bench.workloads.networks.synthetic import Topology

_STAGE_CHANNELS = (64, 128, 256, 512)
# A branch refines what its block is given, as in a trained network: small against the shortcut.
_BRANCH_GAIN = 0.15
CLASSES = 1000


def resnet(blocks: Sequence[int], *, bottleneck: bool) -> Topology:
    """Topology of a ResNet with this number of blocks in each of its four stages."""
    block = _bottleneck if bottleneck else _basic

    def topology(builder: NetworkBuilder, at_width: Callable[[int], int]) -> Tensor:
        stem = builder.convolution("conv1", builder.data, at_width(64), 7, stride=2)
        result = builder.max_pool("maxpool", builder.relu("relu1", stem), 3, stride=2, padding=1)
        for stage, (count, channels) in enumerate(zip(blocks, _STAGE_CHANNELS, strict=True)):
            for index in range(count):
                stride = 2 if stage and not index else 1
                result = block(
                    builder, f"layer{stage + 1}_{index}", result, at_width(channels), stride=stride
                )
        return builder.dense("dense", builder.global_average("avgpool", result), CLASSES)

    return topology


def _basic(builder: NetworkBuilder, name: str, source: Tensor, channels: int, *, stride: int) -> Tensor:
    branch = builder.convolution(f"{name}_conv1", source, channels, 3, stride=stride)
    branch = builder.relu(f"{name}_relu1", branch)
    branch = builder.convolution(f"{name}_conv2", branch, channels, 3, gain=_BRANCH_GAIN)
    shortcut = _shortcut(builder, name, source, channels, stride)
    return builder.relu(f"{name}_relu2", builder.add(f"{name}_residual", branch, shortcut))


def _bottleneck(builder: NetworkBuilder, name: str, source: Tensor, channels: int, *, stride: int) -> Tensor:
    branch = builder.relu(f"{name}_relu1", builder.convolution(f"{name}_conv1", source, channels, 1))
    branch = builder.convolution(f"{name}_conv2", branch, channels, 3, stride=stride)
    branch = builder.relu(f"{name}_relu2", branch)
    branch = builder.convolution(f"{name}_conv3", branch, 4 * channels, 1, gain=_BRANCH_GAIN)
    shortcut = _shortcut(builder, name, source, 4 * channels, stride)
    return builder.relu(f"{name}_relu3", builder.add(f"{name}_residual", branch, shortcut))


def _shortcut(builder: NetworkBuilder, name: str, source: Tensor, channels: int, stride: int) -> Tensor:
    if stride == 1 and source.channels == channels:
        return source
    return builder.convolution(f"{name}_downsample", source, channels, 1, stride=stride)
