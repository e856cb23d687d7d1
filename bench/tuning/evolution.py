"""What MetaSchedule's evolutionary search asks of a space: postprocessing, mutation, and a cost model.

The search replays a trace with another decision. Here the decisions are the knobs of a tiling, which the
postprocessor reads together and schedules by (:mod:`kernels.tensorcore.design_space`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm.ir.utils import derived_object
from tvm.s_tir import Schedule, meta_schedule
from tvm.s_tir.schedule import Trace

from bench.tuning.measurement import SECTOR, SECTOR_BYTES
from kernels.tensorcore.default_tiling import global_bytes, instructions_per_product
from kernels.tensorcore.design_space import KNOBS, apply_drawn, design_space, mutated, tiling_of
from kernels.tensorcore.problem import Problem
from kernels.tensorcore.tiling import Tiling

# Traces among which one generation is bred, generations between two rounds of measurements, and the share
# of a round that is drawn anew, whatever the cost model says. Some three in a hundred draws are acceptable
# for a layer of few tiles: new ones are drawn until there are so many, or none came of so many populations.
POPULATION = 32
BRED_FOR_A_TRIAL = 4
GENERATIONS = 2
DRAWN = 0.25
ACCEPTABLE = 8
FRUITLESS = 64
# How much a measured candidate counts against the estimate; and by which power of its cost one breeds.
CAUTION = 1.0
SELECTION = 4

# A knob, a value of it, and whether a tiling has it, makes one column.
Column = tuple[str, Any]


def evolution(trials: int) -> meta_schedule.search_strategy.SearchStrategy:
    """MetaSchedule's evolutionary search, in sizes that fit so many measurements of a second each."""
    return meta_schedule.search_strategy.EvolutionarySearch(
        population_size=min(POPULATION, BRED_FOR_A_TRIAL * trials),
        init_min_unmeasured=min(ACCEPTABLE, 2 * trials),
        max_fail_count=FRUITLESS,
        genetic_num_iters=GENERATIONS,
        eps_greedy=DRAWN,
    )


def space_of(problem: Problem) -> meta_schedule.space_generator.SpaceGenerator:
    """The space of a described layer's schedules, as MetaSchedule takes one."""
    return meta_schedule.space_generator.ScheduleFn(
        design_space(problem),
        sch_rules=[],
        postprocs=[ByTiling(problem)],
        mutator_probs={OneKnob(): 1.0},
    )


@derived_object
class ByTiling(meta_schedule.postproc.PyPostproc):
    """Schedules a layer by the knobs that were drawn, or refuses these."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.problem = problem

    def _initialize_with_tune_context(self, context: Any) -> None:
        """MetaSchedule's call."""

    def apply(self, sch: Schedule) -> bool:
        """MetaSchedule's call."""
        return apply_drawn(sch, self.problem)

    def clone(self) -> ByTiling:
        """MetaSchedule's call."""
        return ByTiling(self.problem)


@derived_object
class OneKnob(meta_schedule.mutator.PyMutator):
    """Gives one knob of a trace another value."""

    def _initialize_with_tune_context(self, context: Any) -> None:
        """MetaSchedule's call."""

    def apply(self, trace: Trace, seed: int) -> Trace | None:
        """MetaSchedule's call, with the random state of its search."""
        return mutated(trace, seed)

    def clone(self) -> OneKnob:
        """MetaSchedule's call."""
        return OneKnob()


class CostEstimate:
    """What a candidate will cost, without trying it: an estimate, corrected by what was measured.

    The logarithm of measured over estimated is taken for a sum of one number for each value of each knob;
    those numbers are found by least squares with a penalty for large ones (ridge regression).
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._measured: list[tuple[Tiling, float]] = []

    def learn(self, tiling: Tiling, cost: float) -> None:
        """Take a measurement into account."""
        self._measured.append((tiling, np.log(cost / self._estimate(tiling))))

    def __call__(self, tilings: Sequence[Tiling]) -> np.ndarray:
        """The costs of some tilings; only their ratios have a meaning."""
        costs = np.array([self._estimate(tiling) for tiling in tilings])
        if not self._measured:
            return costs
        known = [tiling for tiling, _ in self._measured]
        columns = [
            (name, value) for name in KNOBS for value in dict.fromkeys(getattr(each, name) for each in known)
        ]
        seen = _table(known, columns)
        ratios = np.array([ratio for _, ratio in self._measured])
        mean = ratios.mean()
        corrections = np.linalg.solve(
            seen.T @ seen + CAUTION * np.eye(len(columns)), seen.T @ (ratios - mean)
        )
        return costs * np.exp(mean + _table(tilings, columns) @ corrections)

    def _estimate(self, tiling: Tiling) -> float:
        instructions = instructions_per_product(tiling, self._problem) * self._problem.tensor_instructions
        return instructions + SECTOR * global_bytes(tiling, self._problem) / SECTOR_BYTES


def _table(tilings: Sequence[Tiling], columns: Sequence[Column]) -> np.ndarray:
    return np.array(
        [[float(getattr(tiling, name) == value) for name, value in columns] for tiling in tilings]
    )


@derived_object
class CostModel(meta_schedule.cost_model.PyCostModel):
    """Says to MetaSchedule which candidates are worth a measurement."""

    def __init__(self, estimate: CostEstimate) -> None:
        super().__init__()
        self.estimate = estimate

    def load(self, path: str) -> None:
        """MetaSchedule's call: nothing is kept but the records."""

    def save(self, path: str) -> None:
        """MetaSchedule's call."""

    def update(self, context: Any, candidates: Sequence[Any], results: Sequence[Any]) -> None:
        """MetaSchedule's call, with what was measured."""
        for candidate, result in zip(candidates, results, strict=True):
            if result.run_secs:
                self.estimate.learn(tiling_of(candidate.sch.trace), float(result.run_secs[0]))

    def predict(self, context: Any, candidates: Sequence[Any]) -> np.ndarray:
        """MetaSchedule's call: the higher the better."""
        costs = self.estimate([tiling_of(candidate.sch.trace) for candidate in candidates])
        return (costs.min() / costs) ** SELECTION
