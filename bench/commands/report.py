"""``bitexact report``: the JSON of runs as one page of HTML."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bench.whole_file import write_whole


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "report",
        help="show the JSON of runs as one page of HTML, with a picture of each mismatch",
        description="The page needs no other file and no network. Exit status 0 only where every verdict in "
        "it is exact.",
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN.json", help="what --json of run or verify wrote"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("report.html"),
        metavar="FILE",
        help="the page (default report.html)",
    )
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Read all files, write the page, and say what is in it."""
    from bench.reports import json_file
    from bench.reports.html.page import Page, render

    try:
        runs = [(path.name, json_file.read(path)) for path in options.runs]
        text = render(runs)
    except ValueError as error:
        return _usage_error(str(error))
    try:
        write_whole(options.output, text)
    except OSError as error:
        return _usage_error(f"-o {options.output}: {error.strerror}")
    page = Page(runs)
    print(f"{options.output}: {page.exact} of {len(page.entries)} exact")
    for entry in page.failed:
        print(f"  {entry.state.symbol} {entry.verdict.workload}, {entry.where}: {entry.verdict.verdict}")
    return 1 if page.failed or not page.entries else 0


def _usage_error(message: str) -> int:
    print(f"bitexact report: {message}", file=sys.stderr)
    return 2
