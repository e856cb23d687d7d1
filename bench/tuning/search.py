"""The search for a tiling: MetaSchedule draws candidates, has them built and measured, and keeps records."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tvm.ir.utils import derived_object
from tvm.s_tir import Schedule, meta_schedule
from tvm.s_tir.meta_schedule.database import Database

from bench.tuning import records
from bench.tuning.evolution import CostEstimate, CostModel, evolution, space_of
from bench.tuning.layer import TunedLayer
from bench.tuning.measurement import (
    Builder,
    Compile,
    Measurement,
    Runner,
    compile_candidate,
    cost_of,
    measure,
)
from kernels.tensorcore.default_tiling import default_tiling
from kernels.tensorcore.design_space import tiling_of, with_tiling
from kernels.tensorcore.product import problem_of
from kernels.tensorcore.tiling import Tiling

CANDIDATES_AT_A_TIME = 8

Progress = Callable[[str], None]
"""Hears how far the search has come."""


@dataclass(frozen=True)
class Trial:
    """One candidate and what came of it."""

    tiling: Tiling
    counters: Mapping[str, int]
    cost: int | None
    """None where it failed, and then"""
    failure: str | None = None
    wrong: bool = False
    """whether it was built, and computed something else or touched memory as it must not."""


@dataclass(frozen=True)
class Tuning:
    """The search for one layer: the default first, then every candidate in the order of its measurement."""

    layer: str
    default: Trial
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial | None:
        """The cheapest that is right, the default among them; None where nothing is right."""
        right = [trial for trial in (self.default, *self.trials) if trial.cost is not None]
        return min(right, key=lambda trial: trial.cost or 0, default=None)

    @property
    def wrong(self) -> list[Trial]:
        """What the compiler got wrong."""
        return [trial for trial in (self.default, *self.trials) if trial.wrong]


def tune(
    layer: TunedLayer,
    *,
    database: Database | Path,
    trials: int = 32,
    seed: int = 0,
    device: str = "sim",
    build: Compile = compile_candidate,
    progress: Progress = lambda _: None,
) -> Tuning:
    """Measure a layer's default tiling and up to ``trials`` candidates, and keep all in a database.

    Candidates are bred by MetaSchedule's EvolutionarySearch from :mod:`kernels.tensorcore.design_space`; it
    ends before ``trials`` where it finds no new ones. The same seed, device and earlier records give the
    same (but for a GPU's clock). Equal layers of later runs take the cheapest record
    (:class:`bench.flows.tensorcore.TensorCoreFlow`), which is never dearer than the default. ``database`` is
    one, or a folder's; ``device`` runs the candidates, ``sim`` or ``cuda``, whose records do not go into one
    database; ``build`` makes the kernel of a scheduled function. Raises ValueError for fewer than one trial
    or a database that cannot be read, DeviceFailure for a device that is missing.
    """
    if trials < 1:
        raise ValueError(f"{trials} trials: at least 1 is needed")
    kept = records.open_database(database) if isinstance(database, Path) else database
    problem = problem_of(layer.function)
    module, target = records.workload(layer.function), records.target()
    default = _default_trial(layer, kept, build, device)
    found: list[Trial] = []
    measurements: dict[str, Measurement] = {}
    estimate = CostEstimate(problem)
    if default.cost:
        estimate.learn(default.tiling, default.cost)
    with _without_tvm_intrinsics():
        task = meta_schedule.TuneContext(
            mod=module,
            target=target,
            space_generator=space_of(problem),
            search_strategy=evolution(trials),
            task_name=layer.name,
            # MetaSchedule takes -1 for no seed, and its generator has none of 0.
            rand_state=seed + 1,
            num_threads=1,
        ).clone()
    with tempfile.TemporaryDirectory() as folder:
        meta_schedule.tune.tune_tasks(
            tasks=[task],
            task_weights=[1.0],
            work_dir=folder,
            max_trials_global=trials,
            num_trials_per_iter=min(trials, CANDIDATES_AT_A_TIME),
            builder=Builder(Path(folder), build),
            runner=Runner(layer, measurements, device),
            database=kept,
            cost_model=CostModel(estimate),
            measure_callbacks=[
                meta_schedule.measure_callback.AddToDatabase(),
                meta_schedule.measure_callback.UpdateCostModel(),
                _Collect(found, measurements, progress),
            ],
            task_scheduler=meta_schedule.task_scheduler.RoundRobin(),
        )
    return Tuning(layer.name, default, tuple(found))


@contextmanager
def _without_tvm_intrinsics() -> Iterator[None]:
    """Let TuneContext import nothing where TVM 0.27 registers its own tensor intrinsics.

    Each of these 262 functions is parsed again, which takes up to half a minute, and the space uses none.
    """
    name = "tvm.s_tir.tensor_intrin"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = ModuleType(name)
    try:
        yield
    finally:
        del sys.modules[name]


def _default_trial(layer: TunedLayer, database: Database, build: Compile, device: str) -> Trial:
    """Measure the default, and keep it as a record like the others."""
    problem = problem_of(layer.function)
    tiling = default_tiling(problem)
    module = records.workload(layer.function)
    schedule = Schedule(module)
    with_tiling(schedule, problem, tiling)
    trial = _trial(tiling, measure(build(schedule.mod["main"]), layer, device=device))
    if trial.cost is not None and not database.has_workload(module):
        database.commit_tuning_record(
            meta_schedule.database.TuningRecord(
                schedule.trace,
                database.commit_workload(module),
                [float(trial.cost)],
                records.target(),
                meta_schedule.arg_info.ArgInfo.from_entry_func(module, remove_preproc=True),
            )
        )
    return trial


def _trial(tiling: Tiling, measurement: Measurement) -> Trial:
    cost = None if measurement.failure else cost_of(measurement.counters)
    return Trial(tiling, measurement.counters, cost, measurement.failure, measurement.wrong)


@derived_object
class _Collect(meta_schedule.measure_callback.PyMeasureCallback):
    """Notes every candidate that MetaSchedule has measured."""

    def __init__(self, found: list[Trial], measurements: dict[str, Measurement], progress: Progress) -> None:
        super().__init__()
        self.found = found
        self.measurements = measurements
        self.progress = progress

    def apply(self, task_scheduler: Any, task_id: int, candidates: Any, builds: Any, results: Any) -> None:
        """MetaSchedule's call."""
        for candidate, build in zip(candidates, builds, strict=True):
            tiling = tiling_of(candidate.sch.trace)
            if build.error_msg:
                measurement = Measurement(failure=str(build.error_msg))
            else:
                measurement = self.measurements[str(build.artifact_path)]
            self.found.append(_trial(tiling, measurement))
        self.progress(f"{len(self.found)} candidates measured")
