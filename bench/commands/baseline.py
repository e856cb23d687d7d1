"""``bitexact baseline``: keep what a regression gave, and say what changed since."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.baseline.comparison import Change


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "baseline",
        help="keep verdicts and counters of a regression, and say what changed since",
        description="For an upgrade of TVM, a new schedule, or another board.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="save|compare")
    saving = actions.add_parser("save", help="one file from the JSON of runs")
    saving.add_argument("runs", nargs="+", type=Path, metavar="RUN.json", help="of bitexact run … --json")
    saving.add_argument("-o", "--output", type=Path, required=True, metavar="BASE.json")
    saving.set_defaults(execute=save)
    comparing = actions.add_parser(
        "compare",
        help="name what changed; exit status 1 where something got worse",
        description="Names every verdict, tensor instruction, version and counter that is not as it was. Of "
        "single layers and single instructions, what is not worse is shown with -v only.",
    )
    comparing.add_argument("base", type=Path, metavar="BASE.json", help="of bitexact baseline save")
    comparing.add_argument("runs", nargs="+", type=Path, metavar="RUN.json", help="of bitexact run … --json")
    comparing.add_argument(
        "--tolerance",
        type=a_tolerance,
        action="append",
        default=[],
        metavar="[COUNTER=]PERCENT",
        help="by how much a counter, or any, may be worse (default 0: simulators count the same every time)",
    )
    comparing.add_argument("--json", type=Path, metavar="FILE", help="write the changes to a file as well")
    comparing.add_argument("-v", "--verbose", action="store_true", help="all changes")
    comparing.set_defaults(execute=compare)


def a_tolerance(value: str) -> tuple[str, float]:
    """``PERCENT`` or ``COUNTER=PERCENT``: the counter, empty for all, and a share."""
    counter, _, percent = value.rpartition("=")
    try:
        share = float(percent.removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share < float("inf"):
        raise argparse.ArgumentTypeError(f"{value!r} is not [COUNTER=]PERCENT with a number from 0")
    return counter, share


def save(options: argparse.Namespace) -> int:
    """Write one file."""
    from bench.baseline.cases import BaselineError, read_runs
    from bench.whole_file import write_whole

    try:
        baseline = read_runs(options.runs)
    except BaselineError as error:
        return _usage_error(str(error))
    write_whole(options.output, baseline.to_json())
    exact = sum(case.verdict == "exact" for case in baseline.cases)
    counted = "1 case" if len(baseline.cases) == 1 else f"{len(baseline.cases)} cases"
    print(f"{options.output}: {counted}, {exact} of them exact")
    return 0


def compare(options: argparse.Namespace) -> int:
    """Print what changed; 1 where something got worse."""
    from bench.baseline.cases import BaselineError, read_baseline, read_runs
    from bench.baseline.comparison import Judgement
    from bench.baseline.comparison import compare as changes_between
    from bench.reports.changes import changes_table, summary
    from bench.whole_file import write_whole

    try:
        before, after = read_baseline(options.base), read_runs(options.runs)
    except BaselineError as error:
        return _usage_error(str(error))
    counters = {name for case in (*before.cases, *after.cases) for name in case.counters}
    if unknown := sorted({name for name, _ in options.tolerance} - counters - {""}):
        counted = ", ".join(sorted(counters)) or "nothing"
        return _usage_error(f"--tolerance: no case counts {', '.join(unknown)}; counted is {counted}")
    changes = changes_between(before, after, tolerances=dict(options.tolerance))
    worse = [change for change in changes if change.judgement is Judgement.WORSE]
    order = list(Judgement)
    shown = sorted(
        (change for change in changes if options.verbose or is_shown(change)),
        key=lambda change: order.index(change.judgement),
    )
    if shown:
        print(changes_table(shown) + "\n")
    print(summary(changes, cases=len(after.cases), hidden=len(changes) - len(shown)))
    if options.json:
        content = {"changes": [asdict(change) for change in changes]}
        write_whole(options.json, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return 1 if worse else 0


def is_shown(change: Change) -> bool:
    """Whether a change is shown without -v: all that is worse, and of whole cases what is no detail."""
    from bench.baseline.comparison import Judgement
    from bench.baseline.directions import is_detail

    return change.judgement is Judgement.WORSE or not (change.layer or is_detail(change.what))


def _usage_error(message: str) -> int:
    print(f"bitexact baseline: {message}", file=sys.stderr)
    return 2
