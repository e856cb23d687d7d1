"""From a PyTorch network to a bit-exact verdict on VTA, and what VTA is given on the way.

python examples/vta_from_pytorch.py        (needs torch: pip install torch==2.13.0)
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

import bench
from bench.importers.pytorch import from_pytorch
from bench.passes import float_ends, fuse_vta, graph_pack, quantize, quantize_input


def network() -> nn.Module:
    """Two convolutions, 3 to 36 to 20 channels, each with batch normalisation and ReLU."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 36, 3, padding=1),
        nn.BatchNorm2d(36),
        nn.ReLU(),
        nn.Conv2d(36, 20, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(20),
        nn.ReLU(),
    ).eval()


def main() -> int:
    """Import, quantise to powers of two, show the composites, run on the VTA machine."""
    images = torch.randn(32, 3, 8, 8)
    float_module = from_pytorch(network(), images[:1])
    integers = quantize(float_module, images.numpy(), scheme="pow2")

    fused = fuse_vta(graph_pack(float_ends(integers), 1, 16, 8))
    print(fused["main"])

    verdict = bench.run(integers, quantize_input(integers, images[:1].numpy()), "vta")
    for layer in verdict.layers:
        print(f"{layer.name}: {layer.shapes}: {layer.instruction or layer.why_not}")
    print(f"verdict: {verdict.verdict} {verdict.reason or ''}")
    return 0 if verdict.exact else 1


if __name__ == "__main__":
    sys.exit(main())
