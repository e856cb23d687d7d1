"""``bitexact run``: a shipped workload through one target or all, to one table of verdicts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.commands.options import (
    a_batch,
    a_count,
    a_fault,
    a_timeout,
    a_vta_profile,
    add_bundles,
    an_image_size,
    some_device,
    some_targets,
    some_workloads,
)
from bench.commands.progress import Progress

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
    parser.add_argument(
        "workload", type=some_workloads, nargs="+", help="which networks (bitexact list), or all"
    )
    parser.add_argument(
        "--target",
        type=some_targets,
        metavar="TARGET[,TARGET]|all",
        help="accelerators (default: all, or the one that --inject or the device concerns)",
    )
    parser.add_argument(
        "--device",
        type=some_device,
        default="sim",
        help="host, sim (default), cuda, rpc://HOST:PORT or tracker://HOST:PORT/KEY",
    )
    parser.add_argument(
        "--jobs",
        type=a_count,
        metavar="N",
        help="cases at once, each in a process of its own (default: as many as the tracker has servers of "
        "the key, else 1)",
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
    from bench.faults import fault_named
    from bench.regression import load
    from kernels.faults import FaultNotPlanted

    fault = fault_named(options.inject) if options.inject else None
    targets = options.target or ([fault.target] if fault else _targets_of(options.device))
    if contradiction := _contradiction(options, fault, targets):
        return _usage_error(contradiction)
    if options.json and not options.json.resolve().parent.is_dir():
        return _usage_error(f"--json: there is no folder {options.json.parent}")
    sizes = _sizes(options)
    try:
        images = {
            name: len(load(name, batch=options.batch, image=side).images) for name, side in sizes.items()
        }
    except ValueError as error:
        return _usage_error(str(error))
    results = _Results(options, sizes, targets)
    interrupted = False
    try:
        results.run()
    except FaultNotPlanted as error:
        print(f"bitexact: fault {options.inject} could not be planted: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        interrupted = True
    shown = [(name, verdicts) for name in sizes if (verdicts := results.of(name))]
    for number, (name, verdicts) in enumerate(shown):
        print("\n" if number else "", end="")
        _print(name, images[name], verdicts, verbose=options.verbose)
    return results.status(interrupted=interrupted)


def _sizes(options: argparse.Namespace) -> dict[str, int | None]:
    """The workloads, each once, and the side of their images; None for the size that is a workload's own.

    Of several, those whose images have one size only are left at that.
    """
    from bench import workloads

    names = list(dict.fromkeys(name for names in options.workload for name in names))
    return {
        name: options.image if len(names) == 1 or workloads.takes(name, "image") else None for name in names
    }


class _Results:
    """The cases of one command, and their verdicts as far as there are any."""

    def __init__(self, options: argparse.Namespace, sizes: dict[str, int | None], targets: list[str]) -> None:
        from bench.regression import Case

        self._options = options
        self._cases = [
            Case(
                workload=workload,
                target=target,
                device=options.device,
                timeout=options.timeout,
                batch=options.batch,
                image=side,
                scheme=options.scheme,
                fault=options.inject,
                profile=options.profile,
                bundles=options.bundles,
            )
            for workload, side in sizes.items()
            for target in targets
        ]
        self._found: dict[int, Verdict] = {}

    def run(self) -> None:
        """Run them, and write what there is after each."""
        from bench.regression import jobs_for, run_cases

        self._write()
        jobs = min(self._options.jobs or jobs_for(self._options.device), len(self._cases))
        with Progress(total=len(self._cases)) as progress:
            for number, outcome in run_cases(
                self._cases, jobs=jobs, progress=lambda case: progress.of(f"{case.workload} {case.target}")
            ):
                self._found[number] = outcome.verdict
                if outcome.not_kept:
                    print(f"bitexact: {outcome.not_kept}", file=sys.stderr)
                self._write()

    def _write(self) -> None:
        """Whoever ends the run finds what there is so far, and that it is not all."""
        from bench.reports import json_file

        if self._options.json:
            verdicts = [verdict for _, verdict in sorted(self._found.items())]
            json_file.write(self._options.json, verdicts, complete=self.complete)

    @property
    def complete(self) -> bool:
        """Whether every case has a verdict."""
        return len(self._found) == len(self._cases)

    def of(self, workload: str) -> list[Verdict]:
        """The verdicts of one workload, in the order of its cases."""
        numbered = sorted(self._found.items())
        return [verdict for number, verdict in numbered if self._cases[number].workload == workload]

    def status(self, *, interrupted: bool) -> int:
        """The exit status, and what there is to say to it."""
        from bench.cli import INTERRUPTED

        if interrupted:
            count = f"{len(self._found)} of {len(self._cases)} cases"
            print(f"bitexact run: interrupted after {count}", file=sys.stderr)
            return INTERRUPTED
        exact = all(verdict.exact for verdict in self._found.values())
        if exact and self._options.inject:
            print(f"bitexact: the planted fault {self._options.inject} was NOT detected", file=sys.stderr)
        return 0 if exact and not self._options.inject else 1


def _print(workload: str, images: int, verdicts: list[Verdict], *, verbose: bool) -> None:
    from bench.reports.table import details, host_table, layer_table, verdict_table

    accuracies = {verdict.accuracy["float"] for verdict in verdicts if verdict.accuracy}
    floats = " or ".join(f"{100 * accuracy:.1f} %" for accuracy in sorted(accuracies))
    counted = f"{images} image" if images == 1 else f"{images} images"
    quality = f"float accuracy {floats}" if floats else _similarity(verdicts)
    print(f"{workload}, {counted}: {quality}")
    if verbose:
        for verdict in verdicts:
            if verdict.layers:
                print(f"\n{verdict.target}\n{layer_table(verdict)}")
            if verdict.on_host:
                print(f"\n{host_table(verdict)}")
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
