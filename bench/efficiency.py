"""What kernels cost by their counters, beside the least they could, and the limits that are set for them.

Counters are the same on every machine. Each measure is a ratio whose numerator was counted; its denominator
follows from the shapes of a layer, or is counted too. The limits are asked of named workloads, which are
large: a small layer has fewer products to spread its fixed costs over and may exceed them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod

from bench.compare.verdict import LayerVerdict

Counters = Mapping[str, int]

TILE = 256
"""Products in one micro-op of VTA's GEMM, in the default configuration."""

_SHAPES = re.compile(
    r"(?P<data>[0-9x]+) \* (?P<weight>[0-9x]+)"
    r"(?: s(?P<strides>[0-9,]+) p(?P<padding>[0-9,]+)(?: d(?P<dilation>[0-9,]+))?(?: g(?P<groups>[0-9]+))?)?"
)


@dataclass(frozen=True)
class LayerShapes:
    """The shapes of a plain convolution (NCHW, OIHW) or of a dense layer (NC, OC)."""

    data: tuple[int, ...]
    weight: tuple[int, ...]
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)

    @property
    def result(self) -> tuple[int, ...]:
        """Images, output channels, and the extents of the image if there are any."""
        top, left, bottom, right = self.padding
        added = (top + bottom, left + right)
        images = (
            (extent + more - (taps - 1) * reach - 1) // step + 1
            for extent, more, taps, reach, step in zip(
                self.data[2:], added, self.weight[2:], self.dilation, self.strides, strict=False
            )
        )
        return (self.data[0], self.weight[0], *images)

    def products(self, *, inputs: int = 1, outputs: int = 1) -> int:
        """Multiplications, with channels rounded up to multiples of ``inputs`` and ``outputs``."""
        images, channels, *extents = self.result
        depth = up(self.weight[1], inputs) * prod(self.weight[2:])
        return images * up(channels, outputs) * prod(extents) * depth

    @property
    def read(self) -> tuple[int, ...]:
        """How many rows and columns of the image some result depends on: a stride may leave some out."""
        before = self.padding[:2]
        return tuple(
            len(
                {
                    place
                    for first in range(-pad, -pad + step * results, step)
                    for place in range(first, first + taps * reach, reach)
                    if 0 <= place < extent
                }
            )
            for extent, pad, step, results, taps, reach in zip(
                self.data[2:],
                before,
                self.strides,
                self.result[2:],
                self.weight[2:],
                self.dilation,
                strict=False,
            )
        )

    def elements(self, *, channels: int = 1) -> tuple[int, int, int]:
        """Elements of data that are read, of weight and of result, with channels rounded up to a multiple."""
        images, inputs, *_ = self.data
        outputs, depth, *taps = self.weight
        _, _, *extents = self.result
        return (
            images * up(inputs, channels) * prod(self.read),
            up(outputs, channels) * up(depth, channels) * prod(taps),
            images * up(outputs, channels) * prod(extents),
        )


def up(number: int, multiple: int) -> int:
    """``number`` rounded up to a multiple."""
    return -(-number // multiple) * multiple


def layer_shapes(layer: LayerVerdict) -> LayerShapes | None:
    """The shapes that a layer's verdict gives in short; None for groups, transposed ones and batches."""
    match = _SHAPES.fullmatch(layer.shapes)
    if match is None or layer.operator not in ("conv2d", "dense") or match["groups"]:
        return None
    data, weight = (tuple(map(int, match[name].split("x"))) for name in ("data", "weight"))
    if len(data) != len(weight):
        return None
    if match["strides"] is None:
        return LayerShapes(data, weight)
    strides, padding, dilation = (
        tuple(map(int, (match[name] or "1").split(","))) for name in ("strides", "padding", "dilation")
    )
    return LayerShapes(
        data,
        weight,
        _repeated(strides, 2),  # type: ignore[arg-type]
        _repeated(padding, 4),  # type: ignore[arg-type]
        _repeated(dilation, 2),  # type: ignore[arg-type]
    )


def _repeated(values: tuple[int, ...], count: int) -> tuple[int, ...]:
    """One value for all, or a value for each."""
    return values * count if len(values) == 1 else values


@dataclass(frozen=True)
class Measure:
    """One ratio of counters.

    ``parts`` gives numerator and denominator for one layer, None where it was not counted or does not apply.
    ``least`` is the value that no kernel can go below, ``limit`` what is asked of ``workloads``: of each, or
    of all ``together``.
    """

    target: str
    name: str
    parts: Callable[[LayerVerdict], tuple[float, float] | None]
    least: float
    limit: float
    workloads: str
    percent: bool = False
    together: bool = False

    def of(self, layers: Iterable[LayerVerdict]) -> float | None:
        """The ratio over some layers together: all that was counted over all that it is held to."""
        parts = [part for layer in layers if (part := self.parts(layer)) and part[1]]
        return sum(one for one, _ in parts) / sum(other for _, other in parts) if parts else None


def _ratio(
    numerator: Iterable[str], denominator: str
) -> Callable[[LayerVerdict], tuple[float, float] | None]:
    names = tuple(numerator)

    def parts(layer: LayerVerdict) -> tuple[float, float] | None:
        counters = layer.counters
        if denominator not in counters or any(name not in counters for name in names):
            return None
        return sum(counters[name] for name in names), counters[denominator]

    return parts


def _gemm(layer: LayerVerdict) -> tuple[float, float] | None:
    shapes = layer_shapes(layer)
    if shapes is None or "gemm_counter" not in layer.counters:
        return None
    return layer.counters["gemm_counter"], shapes.products(inputs=16, outputs=16) / TILE


def _vta_bytes(layer: LayerVerdict) -> tuple[float, float] | None:
    shapes = layer_shapes(layer)
    if shapes is None or "out_store_nbytes" not in layer.counters:
        return None
    return dram_bytes(layer.counters), sum(shapes.elements(channels=16))


def dram_bytes(counters: Counters) -> int:
    """All bytes that a VTA program loads and stores."""
    return sum(count for name, count in counters.items() if name.endswith("nbytes"))


MEASURES = (
    Measure(
        "tensorcore",
        "warp instructions per tensor instruction",
        _ratio(["warp_instructions"], "tensor_instructions"),
        least=1,
        limit=6,
        workloads="the ten int4 convolutions of TVM's HWNC test, default schedules",
    ),
    Measure(
        "tensorcore",
        "global bytes over compulsory",
        _ratio(["global_load_bytes", "global_store_bytes"], "global_compulsory_bytes"),
        least=1,
        limit=2.5,
        workloads="the ten int4 convolutions of TVM's HWNC test, default schedules",
    ),
    Measure(
        "tensorcore",
        "shared transactions lost to bank conflicts",
        _ratio(["shared_bank_conflicts"], "shared_transactions"),
        least=0,
        limit=0.05,
        workloads="the ten int4 convolutions of TVM's HWNC test, default schedules",
        percent=True,
    ),
    Measure(
        "hexagon",
        "packets per vrmpy",
        _ratio(["packets"], "vrmpy"),
        least=0.5,
        limit=0.95,
        workloads="all convolutions of ResNet-50 together",
        together=True,
    ),
    Measure(
        "hexagon",
        "vrmpy over products / 128",
        _ratio(["vrmpy"], "vrmpy_of_products"),
        least=1,
        limit=1,
        workloads="every convolution and dense layer, by the shapes of its packed tensors",
    ),
    Measure(
        "vta",
        "DRAM bytes over compulsory",
        _vta_bytes,
        least=1,
        limit=1.19,
        workloads="C2 to C11 of ResNet-18 together: 15 % below the old tuned schedules, which move "
        "1.40 times as much as data, weights and result",
        together=True,
    ),
    Measure(
        "vta",
        "GEMM micro-ops over products / 256",
        _gemm,
        least=1,
        limit=1,
        workloads="each of C2 to C11 of ResNet-18: no more than the old tuned schedules",
    ),
)
"""The measures of each target, with the limits that are tested."""


def measures_of(target: str) -> list[Measure]:
    """The measures of one target."""
    return [measure for measure in MEASURES if measure.target == target]
