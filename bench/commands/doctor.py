"""``bitexact doctor``: which tools are here, and what to type where one is not."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bench.whole_file import write_whole


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "doctor",
        help="list the tools that the bench uses, found or not, and what to type",
        description="Exit status 0 where every target has its simulator.",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the list to a file as well")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Examine each tool and print what was found."""
    from bench.tools import examine

    tools = examine()
    rows = [
        [tool.name, "found" if tool.found else "not found", tool.what, tool.remedy or ""] for tool in tools
    ]
    print(tabulate(rows, headers=["tool", "", "what was found", "what to type"], disable_numparse=True))
    if options.json:
        write_whole(options.json, json.dumps([vars(tool) for tool in tools], indent=1) + "\n")
    return 0 if all(tool.found for tool in tools if tool.needed) else 1
