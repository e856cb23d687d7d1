"""What tuning found, as a table, as a list of what went wrong, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tabulate import tabulate

from bench.tuning.search import Trial, Tuning
from bench.versions import versions


def table(tunings: Sequence[Tuning]) -> str:
    """One row for each kernel: its default against the best that was found."""
    rows = [
        [
            tuning.layer,
            len(tuning.trials),
            _cost(tuning.default),
            _cost(tuning.best),
            _ratio(tuning),
            _both(tuning, instructions),
            _both(tuning, traffic),
            _both(tuning, conflicts, "{:.1%}"),
            len(tuning.wrong),
        ]
        for tuning in tunings
    ]
    headers = [
        "kernel",
        "candidates",
        "default cost",
        "best cost",
        "best/default",
        "warp/tensor instructions",
        "global bytes/compulsory",
        "bank conflicts",
        "wrong",
    ]
    alignment = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(rows, headers=headers, colalign=alignment, disable_numparse=True)


def instructions(counters: Mapping[str, int]) -> float:
    """Warp instructions for each tensor instruction."""
    return counters["warp_instructions"] / counters["tensor_instructions"]


def traffic(counters: Mapping[str, int]) -> float:
    """Bytes of global memory over those that must move."""
    moved = counters["global_load_bytes"] + counters["global_store_bytes"]
    return moved / counters["global_compulsory_bytes"]


def conflicts(counters: Mapping[str, int]) -> float:
    """The share of transactions of shared memory that are lost to bank conflicts."""
    return counters["shared_bank_conflicts"] / counters["shared_transactions"]


def failures(tunings: Sequence[Tuning]) -> str:
    """Every candidate that was wrong or could not be built, with its tiling; empty where there is none."""
    return "\n".join(
        f"{tuning.layer}: {'WRONG' if trial.wrong else 'not built'}: {trial.failure}\n  {trial.tiling}"
        for tuning in tunings
        for trial in (tuning.default, *tuning.trials)
        if trial.failure
    )


def to_json(tunings: Sequence[Tuning], *, seed: int) -> dict[str, Any]:
    """One object: ``versions``, ``seed``, and for each kernel its ``default``, ``best`` and ``trials``."""
    return {
        "versions": versions(),
        "seed": seed,
        "kernels": [
            {
                "kernel": tuning.layer,
                "default": asdict(tuning.default),
                "best": asdict(tuning.best) if tuning.best else None,
                "trials": [asdict(trial) for trial in tuning.trials],
            }
            for tuning in tunings
        ],
    }


def _cost(trial: Trial | None) -> str:
    return "-" if trial is None or trial.cost is None else f"{trial.cost:,}"


def _ratio(tuning: Tuning) -> str:
    if tuning.best is None or tuning.best.cost is None or tuning.default.cost is None:
        return "-"
    return f"{tuning.best.cost / tuning.default.cost:.2f}"


def _both(tuning: Tuning, share: Callable[[Mapping[str, int]], float], form: str = "{:.2f}") -> str:
    """A share of the default and of the best; a GPU counts nothing of what it is made."""
    sides = (tuning.default, tuning.best)
    return " -> ".join(
        form.format(share(side.counters)) if side and "warp_instructions" in side.counters else "-"
        for side in sides
    )
