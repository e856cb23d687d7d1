"""One tiling drawn from the space that the tuner searches."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from kernels.tensorcore.default_tiling import default_tiling
from kernels.tensorcore.design_space import draw_knobs, tiling_of
from kernels.tensorcore.product import problem_of
from kernels.tensorcore.tiling import Tiling

MOST_DRAWS = 64
"""Knobs are drawn one by one, and not every combination is legal."""


def drawn_tiling(function: PrimFunc, *, seed: int) -> Tiling:
    """A random legal tiling of a described layer; the default where none of MOST_DRAWS is legal.

    It is the same for the same description and seed, wherever it stands.
    """
    digest = blake2b(f"{seed}:{function.script()}".encode(), digest_size=8).digest()
    generator = np.random.default_rng(int.from_bytes(digest, "little"))
    problem = problem_of(function)
    for _ in range(MOST_DRAWS):
        # MetaSchedule takes seeds from 1.
        schedule = Schedule(function, seed=int(generator.integers(1, 2**31 - 1)))
        draw_knobs(schedule, problem)
        tiling = tiling_of(schedule.trace)
        try:
            tiling.check(problem)
        except ValueError:
            continue
        return tiling
    return default_tiling(problem)
