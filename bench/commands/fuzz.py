"""``bitexact fuzz``: random small graphs and schedules, until one fails or time is up."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from bench.commands.options import a_count, a_fault, a_number, a_seed, a_timeout, add_bundles, some_targets
from bench.commands.progress import LongProgress

if TYPE_CHECKING:
    from bench.fuzz.search import Finding, Search

DEFAULT_MINUTES = 1.0


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "fuzz",
        help="try random small graphs and schedules on targets' machines, the host and in NumPy",
        description="Draws small integer graphs of what a target claims to take, with random schedules where "
        "its kernels have more than one, and compares every tensor on the target's machine, on the host and "
        "in NumPy. The same seed draws the same cases, whatever the number of processes. What fails is told "
        "apart by verdict, operator and cause, minimised, and kept for bitexact replay. Exit status 0 only "
        "where nothing failed.",
    )
    parser.add_argument(
        "--target",
        type=some_targets,
        metavar="TARGET[,TARGET]|all",
        help="default: all, or the one that --inject concerns",
    )
    parser.add_argument(
        "--minutes",
        type=a_number,
        metavar="N",
        help=f"for each target (default {DEFAULT_MINUTES:g}, or no limit with --cases)",
    )
    parser.add_argument("--cases", type=a_count, metavar="N", help="so many for each target, and no more")
    parser.add_argument("--seed", type=a_seed, default=0, help="of the cases (default 0)")
    parser.add_argument(
        "--jobs",
        type=a_count,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes (default: the cores)",
    )
    parser.add_argument("--inject", type=a_fault, metavar="FAULT", help="plant a fault (bitexact list)")
    parser.add_argument(
        "--seconds",
        type=a_timeout,
        default=60.0,
        metavar="SECONDS",
        help="for minimising each finding (default 60)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to a file as well")
    add_bundles(parser)
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Search each target, keep and minimise what was found, and print it."""
    from bench.devices.execution import require_device
    from bench.devices.failure import DeviceFailure
    from bench.faults import fault_named
    from bench.flows.flow import TARGETS
    from bench.versions import versions

    fault = fault_named(options.inject) if options.inject else None
    targets = options.target or ([fault.target] if fault else list(TARGETS))
    if fault and targets != [fault.target]:
        return _usage_error(f"fault {fault.name} is one of {fault.target}: --target {fault.target}")
    if options.json and not options.json.resolve().parent.is_dir():
        return _usage_error(f"--json: there is no folder {options.json.parent}")
    searches = []
    missing = False
    for target in targets:
        try:
            require_device(target, "sim")
        except DeviceFailure as failure:
            print(f"{target}: {failure.verdict}: {failure}", file=sys.stderr)
            missing = True
            continue
        searches.append(_search(target, options))
        print(_summary(searches[-1]), flush=True)
        if searches[-1].interrupted:
            break
    if options.json:
        content = {"versions": versions(), "searches": [each.to_json() for each in searches]}
        options.json.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    if any(each.interrupted for each in searches):
        return 130
    return 1 if missing or any(each.findings for each in searches) else 0


def _search(target: str, options: argparse.Namespace) -> Search:
    from bench.fuzz.search import search

    minutes = options.minutes
    if minutes is None and options.cases is None:
        minutes = DEFAULT_MINUTES
    with LongProgress() as progress:
        state = search(
            target,
            seed=options.seed,
            minutes=minutes,
            cases=options.cases,
            jobs=options.jobs,
            fault=options.inject,
            progress=lambda now: progress(
                f"{now.target}: {now.cases:,} cases, {now.rate:.0f} a minute, {len(now.findings)} findings"
            ),
        )
        for finding in state.findings:
            try:
                _keep(state, finding, options, progress)
            except KeyboardInterrupt:
                state.interrupted = True
                break
    return state


def _keep(state: Search, finding: Finding, options: argparse.Namespace, progress: LongProgress) -> None:
    """Write a finding as a bundle, and a smaller one beside it."""
    from bench import bundles
    from bench.bundles import BundleError
    from bench.fuzz.search import keep
    from bench.minimise.bundle import minimise_bundle

    if options.bundles is None:
        return
    progress(f"{state.target}: keeping case {finding.outcome.index}")
    try:
        keep(state, finding, options.bundles)
        # With Ctrl-C there is time for the case, and none to make it smaller.
        if finding.bundle is None or state.interrupted:
            return
        finding.minimised, _, found = minimise_bundle(
            bundles.read(finding.bundle),
            options.bundles,
            seconds=options.seconds,
            progress=lambda text: progress(f"{state.target}: case {finding.outcome.index}: {text}"),
        )
        finding.note = "; ".join(filter(None, (finding.note, found.text)))
    except (OSError, BundleError) as error:
        finding.note = "; ".join(filter(None, (finding.note, str(error))))


def _summary(state: Search) -> str:
    """What came of one search."""
    outcomes = ", ".join(f"{number:,} {kind}" for kind, number in state.kinds.most_common())
    lines = [
        f"{state.target}, seed {state.seed}: {state.cases:,} cases in {state.seconds:.1f} s, "
        f"{state.rate:.0f} a minute, {state.jobs} {'process' if state.jobs == 1 else 'processes'}"
        + (", interrupted" if state.interrupted else ""),
        f"  {outcomes or 'nothing'}; {state.tensorised:,} of {state.layers:,} layers tensorised",
    ]
    if state.findings:
        rows = [
            [
                str(finding.outcome.signature),
                finding.outcome.device or "passes",
                f"{finding.count:,}",
                finding.outcome.index,
                str(finding.minimised or finding.bundle or "-"),
            ]
            for finding in state.findings
        ]
        headers = ["finding", "device", "cases", "first", "bundle (bitexact replay)"]
        lines.append(tabulate(rows, headers=headers, disable_numparse=True))
        lines += [f"  case {each.outcome.index}: {each.note}" for each in state.findings if each.note]
    return "\n".join(lines)


def _usage_error(message: str) -> int:
    print(f"bitexact fuzz: {message}", file=sys.stderr)
    return 2
