"""``bitexact list``: what there is to name - workloads, targets, devices, kernels, faults - or a program."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bench.whole_file import write_whole


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "list", help="show workloads, targets, devices, kernels and faults, or what a program does"
    )
    parser.add_argument("--program", type=Path, metavar="FILE", help="explain a VTA program instead")
    parser.add_argument("--instructions", action="store_true", help="and show all of its instructions")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the lists to a file as well")
    parser.set_defaults(execute=execute)


def catalogue() -> dict[str, list[dict[str, str]]]:
    """All lists, by heading; each entry is one row."""
    from bench import workloads
    from bench.devices.names import DEVICES
    from bench.faults import FAULTS
    from bench.kernel_table import KERNELS
    from bench.tuning.sets import SETS

    return {
        "workloads": [{"workload": name, "what": workloads.what(name)} for name in workloads.names()],
        "sets to tune": [{"set": name, "what": each.what} for name, each in SETS.items()],
        "targets": [
            {"target": "tensorcore", "what": "WMMA tensor cores: HWNC graph, PTX"},
            {"target": "hexagon", "what": "Hexagon HVX: NCHW32c graph, vrmpy, ELF"},
            {"target": "vta", "what": "VTA: NCHW1n16c graph, GEMM and ALU programs"},
        ],
        "devices": [{"device": name, "what": what} for name, what in DEVICES.items()],
        "kernels": [vars(kernel) for kernel in KERNELS],
        "faults": [
            {"fault": fault.name, "target": fault.target, "what": fault.what} for fault in FAULTS.values()
        ],
    }


def execute(options: argparse.Namespace) -> int:
    """Print the lists, or what a program does."""
    if options.program:
        return _explain(options)
    if options.instructions:
        print("bitexact list: --instructions goes with --program", file=sys.stderr)
        return 2
    lists = catalogue()
    print("\n\n".join(tabulate(rows, headers="keys", disable_numparse=True) for rows in lists.values()))
    if options.json:
        write_whole(options.json, json.dumps(lists, indent=1, ensure_ascii=False) + "\n")
    return 0


def _explain(options: argparse.Namespace) -> int:
    """Print a program of VTA; one that cannot be read is a usage error."""
    from bench.reports.vta_program import summary, text_of
    from simulators.vta import load

    try:
        program = load(options.program.read_bytes())
        printed = text_of(program, instructions=options.instructions)
        numbers = summary(program)
    except (OSError, ValueError) as error:
        print(f"bitexact list: {options.program}: {error}", file=sys.stderr)
        return 2
    print(printed)
    if options.json:
        write_whole(options.json, json.dumps(numbers, indent=1, ensure_ascii=False) + "\n")
    return 0
