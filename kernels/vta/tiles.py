"""How a layer is cut into tiles: extents, and what the memories hold."""

from collections.abc import Iterator

from simulators.vta.config import LOOP_BITS, Config

Span = tuple[int, int]
"""First index and length of a tile along one extent."""


def ceil_splits(extent: int) -> list[int]:
    """Return the tile sizes ceil(extent / n) for n = 1, 2, ..., largest first."""
    return sorted({-(-extent // parts) for parts in range(1, extent + 1)}, reverse=True)


def chunks(extent: int, step: int) -> Iterator[Span]:
    """Yield first index and length of each tile along an extent."""
    for first in range(0, extent, step):
        yield first, min(step, extent - first)


def limits(config: Config) -> dict[str, int]:
    """Return the elements that each memory has for a tile; a loop cannot count all of a very large ACC."""
    return {
        "INP": config.inp_depth,
        "WGT": config.wgt_depth,
        "ACC": min(config.acc_depth, (1 << LOOP_BITS) - 1),
        "UOP": config.uop_depth,
    }
