"""``bitexact list``: what there is to name - workloads, targets, devices, kernels and faults."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tabulate import tabulate


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("list", help="show workloads, targets, devices, kernels and faults")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the lists to a file as well")
    parser.set_defaults(execute=execute)


def catalogue() -> dict[str, list[dict[str, str]]]:
    """All lists, by heading; each entry is one row."""
    from bench import workloads
    from bench.devices.names import DEVICES
    from bench.faults import FAULTS
    from bench.kernel_table import KERNELS

    return {
        "workloads": [{"workload": name, "what": workloads.what(name)} for name in workloads.names()],
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
    """Print the lists."""
    lists = catalogue()
    print("\n\n".join(tabulate(rows, headers="keys", disable_numparse=True) for rows in lists.values()))
    if options.json:
        options.json.write_text(json.dumps(lists, indent=1, ensure_ascii=False) + "\n")
    return 0
