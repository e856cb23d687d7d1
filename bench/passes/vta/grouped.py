"""Grouped weights for a machine that multiplies whole blocks of channels.

A block of c input channels meets a block of c output channels. Groups narrower than that share blocks, and
what they do not have in common is zero: a depthwise convolution of 64 channels becomes 4 groups of 16 by 16
with a diagonal weight. The zeros cost nothing where the groups fill their blocks, and keep the result exact
where they do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import numpy as np

GROUPINGS = ("any", "blocks", "none")
"""How many groups kernels have: any number, one or one a block of output channels, or one."""


def blocked_groups(
    weight: np.ndarray,
    *,
    groups: int,
    channels: Sequence[int],
    inputs: int,
    block: int,
    grouping: str = "any",
) -> tuple[np.ndarray, int]:
    """The weight of a grouped convolution for whole blocks, and the number of groups it then has.

    ``weight`` is OIHW (O, I/groups, KH, KW). Input channel i lies at ``channels[i]`` of ``inputs``, a
    multiple of ``block``. The result is (O, inputs/g, KH, KW), with as many groups g as the blocks leave
    apart and ``grouping``, one of GROUPINGS, allows.
    """
    outputs, depth = weight.shape[:2]
    group = np.arange(outputs) // (outputs // groups)
    places = np.asarray(channels).reshape(groups, depth)[group]
    wide = np.zeros((outputs, inputs, *weight.shape[2:]), weight.dtype)
    wide[np.arange(outputs)[:, np.newaxis], places] = weight
    blocks = -(-outputs // block), inputs // block
    used = np.zeros(blocks, bool)
    used[(np.arange(outputs) // block)[:, np.newaxis], places // block] = True
    allowed = {"any": range(1, gcd(*blocks) + 1), "blocks": (1, blocks[0]), "none": (1,)}[grouping]
    count = max(g for g in allowed if gcd(*blocks) % g == 0 and _is_diagonal(used, g))
    own = np.arange(outputs) // block // (blocks[0] // count)
    depth = inputs // count
    columns = own[:, np.newaxis] * depth + np.arange(depth)
    return np.ascontiguousarray(wide[np.arange(outputs)[:, np.newaxis], columns]), count


def _is_diagonal(used: np.ndarray, groups: int) -> bool:
    """Whether each of so many groups of output blocks uses its own group of input blocks alone."""
    rows, columns = np.nonzero(used)
    return bool(np.all(rows // (used.shape[0] // groups) == columns // (used.shape[1] // groups)))
