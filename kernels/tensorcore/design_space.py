"""The tilings among which a tuner looks for one, as TVM's MetaSchedule takes a space of schedules.

Each knob is drawn with `sample_categorical` from values of its own, whatever the others are, and noted on the
block of the product: so a trace has all knobs as decisions that may be changed one by one and replayed
(`mutated`). Only what follows the drawing, MetaSchedule's postprocessing (`apply_drawn`), reads them
together, refuses tilings that are not legal or not worth a trial, and schedules.

The values of the knobs that the default chooses by an estimate are those of the best tilings of that
estimate, cheaper ones drawn more often; the others have all their values.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
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
from kernels.tensorcore.tiling import AUTO_UNROLL, REORDER_INNER, STAGES, VECTOR_BYTES, Tiling

# Of the tilings of the estimate: how many, and how much dearer than the best; a tiling that costs twice the
# best counts that many times less.
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
    "split_block_k_nums": {number: 1 / number for number in range(1, MOST_RECTANGLES + 1)},
    "vector_as": dict(zip(VECTOR_BYTES, (1, 3, 16), strict=True)),
    "vector_ws": dict(zip(VECTOR_BYTES, (1, 3, 16), strict=True)),
    "reorder_inner": dict(zip(REORDER_INNER, (1, 1), strict=True)),
    "as_double_buffer": {False: 3, True: 1},
    "ws_double_buffer": {False: 3, True: 1},
    "auto_unroll_max_step": dict.fromkeys(AUTO_UNROLL, 1),
}
_BLOCK = "product"
_NOTE = "bitexact.tiling."


def design_space(problem: Problem) -> Callable[[Schedule], None]:
    """Make the function with which MetaSchedule draws the knobs of a described layer (its ScheduleFn)."""

    def draw(sch: Schedule) -> None:
        draw_knobs(sch, problem)

    return draw


def draw_knobs(sch: Schedule, problem: Problem, tiling: Tiling | None = None) -> None:
    """Draw every knob from the random state of a schedule, or decide for those of a given tiling."""
    block = sch.get_sblock(_BLOCK)
    for name, domain in _domains(problem).items():
        weights = dict(domain)
        if tiling:
            # A tiling may come from elsewhere, and have a value that is not drawn here.
            weights.setdefault(getattr(tiling, name), min(domain.values()))
        numbered = _NUMBERED.get(name)
        numbers = [numbered.index(value) if numbered else value for value in weights]
        total = sum(weights.values())
        drawn = sch.sample_categorical(
            numbers,
            [weight / total for weight in weights.values()],
            decision=list(weights).index(getattr(tiling, name)) if tiling else None,
        )
        # What nothing reads, MetaSchedule strikes from a trace.
        sch.annotate(block, _NOTE + name, drawn)


def apply_drawn(sch: Schedule, problem: Problem) -> bool:
    """Schedule a layer by the knobs that were drawn, or return False where they are not acceptable."""
    tiling = tiling_of(sch.trace)
    if not is_acceptable(tiling, problem):
        return False
    _apply(sch, problem, tiling)
    return True


def with_tiling(sch: Schedule, problem: Problem, tiling: Tiling) -> None:
    """Take a schedule through a given tiling, with the knobs in its trace as if they had been drawn.

    Raises ValueError for a tiling that is not legal.
    """
    tiling.check(problem)
    draw_knobs(sch, problem, tiling)
    sch.enter_postproc()
    _apply(sch, problem, tiling)


def _apply(sch: Schedule, problem: Problem, tiling: Tiling) -> None:
    block = sch.get_sblock(_BLOCK)
    for name in KNOBS:
        sch.unannotate(block, _NOTE + name)
    apply_tiling(sch, problem, tiling)


def mutated(trace: Trace, seed: int) -> Trace | None:
    """Make a trace of which one knob, drawn by a seed, has another value; None where none has a choice."""
    knobs = [each for each in _drawn(trace) if len(each.attrs[0]) > 1]
    if not knobs:
        return None
    generator = random.Random(seed)
    knob = generator.choice(knobs)
    weights = [float(weight) for weight in knob.attrs[1]]
    weights[int(trace.decisions[knob])] = 0.0
    (decision,) = generator.choices(range(len(weights)), weights)
    return trace.with_decision(knob, decision, remove_postproc=True)


def tiling_of(trace: Trace) -> Tiling:
    """Read the knobs of a schedule from its trace. ValueError for a schedule of another space."""
    return _tiling(int(each.attrs[0][int(trace.decisions[each])]) for each in _drawn(trace))


def tiling_of_json(trace: Any) -> Tiling:
    """Read the knobs from a trace as MetaSchedule stores it: instructions, and decisions by index."""
    instructions, decisions = trace
    chosen = dict(map(tuple, decisions))
    return _tiling(
        int(attributes[0][chosen[index]])
        for index, (kind, _, attributes, _) in enumerate(instructions)
        if kind == "SampleCategorical"
    )


def is_acceptable(tiling: Tiling, problem: Problem) -> bool:
    """Whether a tiling is legal and worth a trial.

    It may not leave more of a device idle than the default does, which the counters would not tell, nor
    move more bytes than the bench asks of a tuned kernel, by the estimate, unless the default does.
    """
    try:
        tiling.check(problem)
    except ValueError:
        return False
    limits = _limits(problem)
    launched = blocks(tiling, problem.extents) // tiling.split_block_k_nums
    return launched >= limits.blocks and global_bytes(tiling, problem) <= limits.bytes


def _drawn(trace: Trace) -> list[Any]:
    return [each for each in trace.insts if each.kind.name == "SampleCategorical"]


def _tiling(drawn: Iterable[int]) -> Tiling:
    numbers = list(drawn)
    if len(numbers) != len(KNOBS):
        raise ValueError(f"the trace has {len(numbers)} decisions; a tiling has {len(KNOBS)} knobs")
    values: dict[str, Any] = {
        name: _NUMBERED[name][number] if name in _NUMBERED else number
        for name, number in zip(KNOBS, numbers, strict=True)
    }
    return Tiling(**values)


@dataclass(frozen=True)
class _Limits:
    """Fewest blocks and most bytes of an acceptable tiling."""

    blocks: int
    bytes: float


@cache
def _limits(problem: Problem) -> _Limits:
    default = default_tiling(problem)
    return _Limits(
        blocks=min(blocks(default, problem.extents), BLOCKS),
        bytes=max(BYTES * compulsory_bytes(problem), global_bytes(default, problem)),
    )


@cache
def _domains(problem: Problem) -> Mapping[str, Mapping[Any, float]]:
    """The values of each knob, with how often each is drawn."""
    likely = heapq.nsmallest(
        MOST_SHARES,
        (each for each in estimates(problem) if is_acceptable(each.tiling, problem)),
        key=lambda each: each.cost,
    )
    best = likely[0].cost
    domains: dict[str, Mapping[Any, float]] = {}
    for name in KNOBS:
        weights: dict[Any, float] = dict(_WEIGHTS.get(name, {}))
        for each in likely if not weights else ():
            if each.cost <= DEAREST * best:
                value = getattr(each.tiling, name)
                weights[value] = weights.get(value, 0.0) + RARER ** -(each.cost / best - 1)
        domains[name] = weights
    return domains
