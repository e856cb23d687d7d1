"""The tilings among which a tuner looks for one, as TVM's MetaSchedule takes a space of schedules.

The knobs that the default chooses by an estimate come from the best tilings of that estimate, the others
from all their values. Each is drawn with `sample_categorical`, one after another, from what is still legal
after the draws before it: so every candidate is legal, and the trace of a schedule has all its knobs.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import Trace

from kernels.tensorcore.default_tiling import (
    BLOCKS,
    BYTES,
    blocks,
    compulsory_bytes,
    default_tiling,
    estimates,
    global_bytes,
)
from kernels.tensorcore.problem import Problem
from kernels.tensorcore.schedule import apply_tiling
from kernels.tensorcore.tiling import AUTO_UNROLL, REORDER_INNER, STAGES, VECTOR_BYTES, Tiling, divisors

# Of the tilings of the estimate: how many, and how much dearer than the best; a tiling that costs twice the
# best is drawn that many times less often.
MOST_SHARES = 400
DEAREST = 2.0
RARER = 16.0
MOST_RECTANGLES = 4

KNOBS = tuple(field.name for field in fields(Tiling))
"""The knobs in the order in which they are drawn."""

# sample_categorical draws integers: these knobs are drawn by their place here.
_NUMBERED: Mapping[str, tuple[Any, ...]] = {
    "stage": STAGES,
    "reorder_inner": REORDER_INNER,
    "as_double_buffer": (False, True),
    "ws_double_buffer": (False, True),
}
# How often a value is drawn that the estimate says nothing of. Narrow vectors seldom win.
_WEIGHTS: Mapping[str, Mapping[Any, float]] = {
    "vector_as": dict(zip(VECTOR_BYTES, (1, 3, 16), strict=True)),
    "vector_ws": dict(zip(VECTOR_BYTES, (1, 3, 16), strict=True)),
    "reorder_inner": dict(zip(REORDER_INNER, (1, 1), strict=True)),
    "as_double_buffer": {False: 3, True: 1},
    "ws_double_buffer": {False: 3, True: 1},
    "auto_unroll_max_step": dict.fromkeys(AUTO_UNROLL, 1),
}
_ESTIMATED = tuple(name for name in KNOBS if "warp" in name or name in ("chunk", "stage"))


def design_space(problem: Problem) -> Callable[[Schedule], None]:
    """Make the function with which MetaSchedule draws a schedule of a described layer (its ScheduleFn)."""

    def draw(sch: Schedule) -> None:
        apply_tiling(sch, problem, draw_tiling(sch, problem))

    return draw


def draw_tiling(sch: Schedule, problem: Problem) -> Tiling:
    """Draw every knob, in the order of `KNOBS`, from the random state of a schedule."""
    shares = dict(_likely_shares(problem))
    tiling = default_tiling(problem)
    settled: dict[str, Any] = {}
    for name in KNOBS:
        if name in _ESTIMATED:
            weights: dict[Any, float] = {}
            for share, weight in shares.items():
                value = getattr(share, name)
                weights[value] = weights.get(value, 0.0) + weight
            value = _draw(sch, name, weights)
            shares = {share: weight for share, weight in shares.items() if getattr(share, name) == value}
            tiling = next(iter(shares))
        else:
            value = _draw(sch, name, _legal(replace(tiling, **settled), name, problem))
        settled[name] = value
        # What the estimate has still to settle stays as one of the tilings that are left.
        tiling = replace(tiling, **settled)
    return tiling


def with_tiling(sch: Schedule, problem: Problem, tiling: Tiling) -> None:
    """Take a schedule through a given tiling, with the knobs in its trace as if they had been drawn."""
    for name in KNOBS:
        _draw(sch, name, {getattr(tiling, name): 1.0})
    apply_tiling(sch, problem, tiling)


def tiling_of(trace: Trace) -> Tiling:
    """Read the knobs of a schedule from its trace. ValueError for a schedule of another space."""
    return _tiling(
        int(instruction.attrs[0][int(trace.decisions[instruction])])
        for instruction in trace.insts
        if instruction.kind.name == "SampleCategorical"
    )


def tiling_of_json(trace: Any) -> Tiling:
    """Read the knobs from a trace as MetaSchedule stores it: instructions, and decisions by index."""
    instructions, decisions = trace
    chosen = dict(map(tuple, decisions))
    return _tiling(
        int(attributes[0][chosen[index]])
        for index, (kind, _, attributes, _) in enumerate(instructions)
        if kind == "SampleCategorical"
    )


def _tiling(drawn: Iterable[int]) -> Tiling:
    numbers = list(drawn)
    if len(numbers) != len(KNOBS):
        raise ValueError(f"the trace has {len(numbers)} decisions; a tiling has {len(KNOBS)} knobs")
    values: dict[str, Any] = {
        name: _NUMBERED[name][number] if name in _NUMBERED else number
        for name, number in zip(KNOBS, numbers, strict=True)
    }
    return Tiling(**values)


def _draw(sch: Schedule, name: str, weights: Mapping[Any, float]) -> Any:
    numbered = _NUMBERED.get(name)
    numbers = [numbered.index(value) if numbered else value for value in weights]
    total = sum(weights.values())
    drawn = sch.sample_categorical(numbers, [weight / total for weight in weights.values()])
    number = int(sch.get(drawn))
    return numbered[number] if numbered else number


@cache
def _likely_shares(problem: Problem) -> tuple[tuple[Tiling, float], ...]:
    """The best tilings of the estimate with how often each is drawn.

    None leaves more of a device idle than the default does, which the counters would not tell; and none
    moves more bytes than the bench asks of a tuned kernel, by the estimate, unless the default does.
    """
    enough = _enough_blocks(problem)
    most = max(BYTES * compulsory_bytes(problem), global_bytes(default_tiling(problem), problem))
    likely = heapq.nsmallest(
        MOST_SHARES,
        (
            each
            for each in estimates(problem)
            if blocks(each.tiling, problem.extents) >= enough and global_bytes(each.tiling, problem) <= most
        ),
        key=lambda each: each.cost,
    )
    best = likely[0].cost
    return tuple(
        (each.tiling, RARER ** -(each.cost / best - 1)) for each in likely if each.cost <= DEAREST * best
    )


def _enough_blocks(problem: Problem) -> int:
    return min(blocks(default_tiling(problem), problem.extents), BLOCKS)


def _legal(tiling: Tiling, name: str, problem: Problem) -> dict[Any, float]:
    """The values of a knob that are legal beside the others."""
    if name == "split_block_k_nums":
        height, width = tiling.rectangle
        rectangles = (problem.extents.height // height) * (problem.extents.width // width)
        most = min(MOST_RECTANGLES, blocks(tiling, problem.extents) // _enough_blocks(problem))
        candidates = {number: 1.0 / number for number in divisors(rectangles, most)}
    else:
        candidates = dict(_WEIGHTS[name])
    return {
        value: weight
        for value, weight in candidates.items()
        if _is_legal(_with(tiling, name, value), problem)
    }


def _with(tiling: Tiling, name: str, value: Any) -> Tiling:
    changed: dict[str, Any] = {name: value}
    return replace(tiling, **changed)


def _is_legal(tiling: Tiling, problem: Problem) -> bool:
    try:
        tiling.check(problem)
    except ValueError:
        return False
    return True
