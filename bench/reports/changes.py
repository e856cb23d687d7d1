"""What changed between two regressions, as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tabulate import tabulate

from bench.baseline.comparison import Change, Judgement


def changes_table(changes: Sequence[Change]) -> str:
    """One row for each change."""
    rows = [
        [
            change.case or "all",
            change.layer or "-",
            change.what,
            _shown(change.before),
            _shown(change.after),
            "" if change.share is None else f"{100 * change.share:+.1f} %",
            change.judgement.value,
        ]
        for change in changes
    ]
    headers = ["case", "layer", "what", "before", "after", "change", ""]
    alignment = ["left", "left", "left", "right", "right", "right", "left"]
    return tabulate(rows, headers=headers, colalign=alignment, disable_numparse=True)


def summary(changes: Sequence[Change], *, cases: int, hidden: int = 0) -> str:
    """How many changes there are of each kind, and how many of them are not shown."""
    counts = Counter(change.judgement for change in changes)
    said = ", ".join(f"{counts[judgement]} {judgement}" for judgement in Judgement if counts[judgement])
    unseen = f" ({hidden} of them with -v only)" if hidden else ""
    return f"{cases} case{'s' if cases != 1 else ''} compared: {said or 'nothing changed'}{unseen}"


def _shown(value: str | int | float | None) -> str:
    if value is None:
        return "(none)"
    return f"{value:,}" if isinstance(value, int | float) else value
