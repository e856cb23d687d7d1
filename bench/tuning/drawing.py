"""One tiling drawn from the space that the tuner searches."""

from __future__ import annotations

from hashlib import blake2b

from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

from kernels.tensorcore.design_space import draw_tiling
from kernels.tensorcore.product import problem_of
from kernels.tensorcore.tiling import Tiling


def drawn_tiling(function: PrimFunc, *, seed: int) -> Tiling:
    """A random tiling of a described layer; the same description and seed give the same one."""
    digest = blake2b(f"{seed}:{function.script()}".encode(), digest_size=4).digest()
    # MetaSchedule takes seeds from 1.
    state = int.from_bytes(digest, "little") % (2**31 - 2) + 1
    return draw_tiling(Schedule(function, seed=state), problem_of(function))
