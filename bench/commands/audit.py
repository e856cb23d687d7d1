"""``bitexact audit``: plant faults in the bench itself, and see that its checks notice."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench.commands.options import a_number_of_jobs, a_timeout
from bench.whole_file import write_whole


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "audit",
        help="plant faults in the bench itself, and see that the check named for each notices",
        description="Plants each fault of a table (docs/audit.md) in passes, kernels, machine code, "
        "simulators, models and the comparison, one at a time, and runs the check that has to catch it. "
        "Every check also runs without a fault, and has to be quiet. Exit status 0 only where all is so.",
    )
    parser.add_argument(
        "fault", nargs="*", metavar="FAULT", help="only these: whole names, or a subject (default: all)"
    )
    parser.add_argument("--jobs", type=a_number_of_jobs, help="faults at a time (default: one a processor)")
    parser.add_argument(
        "--timeout", type=a_timeout, default=120.0, metavar="SECONDS", help="limit for each fault (120)"
    )
    parser.add_argument("--list", action="store_true", help="print the table of faults, and plant none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcomes to a file as well")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Plant, check, print."""
    from bench.audit import CHECKS, FAULTS, SUBJECTS, Outcome, audit
    from bench.reports.audit import catalogue_document, kill_table, summary, to_json
    from bench.versions import versions

    unknown = [name for name in options.fault if name not in FAULTS and name not in SUBJECTS]
    if unknown:
        print(
            f"bitexact audit: unknown fault {unknown[0]!r}: a name of bitexact audit --list, or one of "
            f"{', '.join(SUBJECTS)}",
            file=sys.stderr,
        )
        return 2
    if options.json and not options.json.resolve().parent.is_dir():
        print(f"bitexact audit: --json: there is no folder {options.json.parent}", file=sys.stderr)
        return 2
    chosen = [
        fault
        for fault in FAULTS.values()
        if not options.fault or fault.name in options.fault or fault.subject in options.fault
    ]
    if options.list:
        print(catalogue_document(chosen, CHECKS.values()))
        return 0

    def listen(outcome: Outcome) -> None:
        if sys.stderr.isatty():
            name = outcome.fault.name if outcome.fault else f"without a fault: {outcome.check}"
            print(f"{outcome.result:12} {name}", file=sys.stderr)

    outcomes = audit(chosen, jobs=options.jobs, timeout=options.timeout, listen=listen)
    print(f"{kill_table(outcomes)}\n\n{summary(outcomes)}")
    if options.json:
        content = {"versions": versions(), "outcomes": to_json(outcomes)}
        write_whole(options.json, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return 0 if all(outcome.good for outcome in outcomes) else 1
