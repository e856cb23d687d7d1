"""``bitexact waivers``: bring the file of known failures up to a run of pytest."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "waivers",
        help="rewrite a file of known failures from what a run of pytest left",
        description="Adds a waiver for each case of LOG.xml (pytest --junit-xml LOG.xml) that failed, with "
        "the phase and the reason, gives a waiver the phase in which its case failed now, and removes that "
        "of a case that passed. Reasons and comments that stand in FILE.toml stay. A waiver hides a failure: "
        "read what was added, and give it a reason of your own.",
    )
    parser.add_argument("file", type=Path, metavar="FILE.toml", help="made where it is not there")
    parser.add_argument(
        "--from", dest="log", type=Path, required=True, metavar="LOG.xml", help="JUnit XML of the run"
    )
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Rewrite, and print what changed."""
    from bench.pytest_plugin.waiver_file import cases_of_junit, rewrite
    from bench.pytest_plugin.waivers import WaiverError

    try:
        cases = cases_of_junit(options.log)
        changes = rewrite(options.file, cases)
    except (WaiverError, OSError) as error:
        print(f"bitexact waivers: {error}", file=sys.stderr)
        return 2
    for change in changes:
        print(change)
    ran = "1 case" if len(cases) == 1 else f"{len(cases)} cases"
    print(f"{ran} in {options.log}: " + (f"{options.file} written" if changes else "nothing to change"))
    return 0
