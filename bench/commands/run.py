"""``bitexact run``: a shipped workload through one target or all, to one table of verdicts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.commands.options import (
    Progress,
    a_batch,
    a_fault,
    a_timeout,
    a_vta_profile,
    a_workload,
    add_bundles,
    an_image_size,
    kept,
    some_device,
    some_targets,
)

if TYPE_CHECKING:
    from bench.compare.verdict import Verdict
    from bench.faults import Fault

SCHEMES = ("fixed", "pow2")


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "run",
        help="run a workload through accelerators and compare every tensor",
        description="Quantises a workload, takes it through each target's passes, kernels and device, and "
        "compares every tensor with two NumPy evaluations. Exit status 0 only where every verdict is exact.",
    )
    parser.add_argument("workload", type=a_workload, help="which network (bitexact list)")
    parser.add_argument(
        "--target",
        type=some_targets,
        metavar="TARGET[,TARGET]|all",
        help="accelerators (default: all, or the one that --inject or the device concerns)",
    )
    parser.add_argument(
        "--device", type=some_device, default="sim", help="host, sim (default), cuda or rpc://HOST:PORT"
    )
    parser.add_argument(
        "--batch", type=a_batch, help="images, all in one batch (default: 256 of digits, 1 of others)"
    )
    parser.add_argument(
        "--image",
        type=an_image_size,
        metavar="PIXELS",
        help="side of the images, of a workload that takes any (default: 224 or 64)",
    )
    parser.add_argument("--scheme", choices=SCHEMES, help="quantisation, instead of what the target prefers")
    parser.add_argument("--inject", type=a_fault, metavar="FAULT", help="plant a fault (bitexact list)")
    parser.add_argument(
        "--profile", type=a_vta_profile, help="backend of VTA (fsim, hls, chisel, opencl, vtapp), or all"
    )
    parser.add_argument(
        "--timeout",
        type=a_timeout,
        default=600.0,
        metavar="SECONDS",
        help="limit for each device (default 600)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdicts to a file as well")
    add_bundles(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="one row for each layer, too")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Run, print, and say by the exit status whether everything was exact."""
    from bench import workloads
    from bench.faults import fault_named
    from bench.reports import json_file
    from bench.trace import Trace
    from bench.workload_run import run_workload
    from kernels.faults import FaultNotPlanted

    fault = fault_named(options.inject) if options.inject else None
    targets = options.target or ([fault.target] if fault else _targets_of(options.device))
    if contradiction := _contradiction(options, fault, targets):
        return _usage_error(contradiction)
    try:
        workload = workloads.load(options.workload, batch=options.batch, image=options.image)
    except ValueError as error:
        return _usage_error(str(error))
    if options.json and not options.json.resolve().parent.is_dir():
        return _usage_error(f"--json: there is no folder {options.json.parent}")
    verdicts: list[Verdict] = []
    with Progress(total=len(targets)) as progress:
        for target in targets:
            trace = Trace()
            try:
                verdict = run_workload(
                    workload,
                    target,
                    options.device,
                    scheme=options.scheme,
                    fault=fault,
                    profile=options.profile,
                    timeout=options.timeout,
                    progress=progress.of(target),
                    trace=trace,
                )
            except FaultNotPlanted as error:
                print(f"bitexact: fault {options.inject} could not be planted: {error}", file=sys.stderr)
                return 1
            kept(options.bundles, verdict, trace)
            verdicts.append(verdict)
    _print(workload.name, len(workload.images), verdicts, verbose=options.verbose)
    if options.json:
        json_file.write(options.json, verdicts)
    if fault and verdicts[0].exact:
        print(f"bitexact: the planted fault {fault.name} was NOT detected", file=sys.stderr)
        return 1
    return 0 if all(verdict.exact for verdict in verdicts) else 1


def _print(workload: str, images: int, verdicts: list[Verdict], *, verbose: bool) -> None:
    from bench.reports.table import details, layer_table, verdict_table

    accuracies = {verdict.accuracy["float"] for verdict in verdicts if verdict.accuracy}
    floats = " or ".join(f"{100 * accuracy:.1f} %" for accuracy in sorted(accuracies))
    counted = f"{images} image" if images == 1 else f"{images} images"
    quality = f"float accuracy {floats}" if floats else _similarity(verdicts)
    print(f"{workload}, {counted}: {quality}")
    if verbose:
        for verdict in verdicts:
            if verdict.layers:
                print(f"\n{verdict.target}\n{layer_table(verdict)}")
    print(f"\n{verdict_table(verdicts)}")
    for verdict in verdicts:
        if text := details(verdict):
            print(f"\n{text}")


def _similarity(verdicts: list[Verdict]) -> str:
    """How far the results are from those of the float network, where nobody knows which are right."""
    cosines = sorted({f"{verdict.similarity:.3f}" for verdict in verdicts if verdict.similarity is not None})
    return f"no labels; cosine of float and integer results {' or '.join(cosines)}"


def _targets_of(device: str) -> list[str]:
    """All targets that a device runs."""
    from bench.flows.flow import TARGETS

    return ["tensorcore"] if device == "cuda" else list(TARGETS)


def _contradiction(options: argparse.Namespace, fault: Fault | None, targets: list[str]) -> str | None:
    """Which two options do not go together, and what would."""
    from bench.devices.names import check_target

    for target in targets:
        try:
            check_target(options.device, target)
        except ValueError as error:
            return str(error)
    if fault and targets != [fault.target]:
        return f"fault {fault.name} is one of {fault.target}: --target {fault.target}"
    if options.profile and (targets != ["vta"] or options.device == "host"):
        return "--profile is of VTA's machine: --target vta, and not --device host"
    return None


def _usage_error(message: str) -> int:
    print(f"bitexact run: {message}", file=sys.stderr)
    return 2
