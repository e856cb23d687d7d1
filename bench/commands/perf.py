"""``bitexact perf``: how fast the bench is beside what one would take instead, and what its kernels cost."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.commands.options import a_workload, an_image_size, some_targets
from bench.commands.progress import Progress

if TYPE_CHECKING:
    from bench.perf.result import Measured

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
PARTS = ("layers", "network", "kernels")
NETWORK, IMAGE = "resnet18", 112


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "perf",
        help="measure simulators, reference models and networks beside peers, and kernels by counters",
        description="Ratios of processor time on one core to NumPy's int32 product, onnxruntime, TOSA's "
        "reference model and a loop of nothing but vrmpy, measured in turns; and of each kernel its counters "
        "beside the least they could be. Takes two or three minutes. Exit status 0 only where all that was "
        "measured is exact, and the simulators are there.",
    )
    parser.add_argument(
        "--target", default="all", metavar="TARGET[,TARGET]|all", help="accelerators (default: all)"
    )
    parser.add_argument(
        "--rounds", type=_a_count, default=5, metavar="N", help="rounds of layers (default 5)"
    )
    parser.add_argument(
        "--only",
        choices=PARTS,
        action="append",
        help="one part: layers (speed on two of them), network (speed), kernels (counters); may be repeated",
    )
    parser.add_argument(
        "--network", default=NETWORK, metavar="WORKLOAD", help=f"the network (default {NETWORK})"
    )
    parser.add_argument(
        "--image", type=an_image_size, metavar="PIXELS", help=f"side of its images ({NETWORK}: {IMAGE})"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to a file as well")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the speeds")
    parser.add_argument("--markdown", action="store_true", help="print tables as Markdown")
    parser.set_defaults(execute=execute)


def _a_count(value: str) -> int:
    if not value.isdigit() or not int(value):
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number from 1")
    return int(value)


def execute(options: argparse.Namespace) -> int:
    """Measure, print, and write what was asked for."""
    for path in (options.json, options.plot):
        if path and not path.resolve().parent.is_dir():
            return _usage_error(f"{path}: there is no folder {path.parent}")
    # Before NumPy is imported, which checking a target's name would do: matrix products on one core, as
    # threads that wait for each other count as busy. The processes that are started inherit it.
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        targets, network = some_targets(options.target), a_workload(options.network)
    except argparse.ArgumentTypeError as error:
        return _usage_error(str(error))
    from bench.perf.kernels import measure_kernels
    from bench.perf.networks import measure_network
    from bench.perf.result import Measured
    from bench.perf.speed import measure_layers
    from bench.reports.performance import tables

    parts = options.only or PARTS
    image = options.image or (IMAGE if network == NETWORK else None)
    measured = Measured(options.rounds)
    with Progress(total=len(parts)) as progress:
        if "layers" in parts:
            measure_layers(measured, targets, rounds=options.rounds, progress=progress.of("layers"))
        if "network" in parts:
            try:
                measure_network(
                    measured,
                    network,
                    targets,
                    image=image,
                    rounds=(options.rounds + 1) // 2,
                    progress=progress.of("network"),
                )
            except ValueError as error:  # an image that the network cannot take
                return _usage_error(str(error))
        if "kernels" in parts:
            measure_kernels(measured, targets, progress=progress.of("kernels"))
    print(tables(measured, style="github" if options.markdown else "simple"))
    for path, text in _files(options, measured):
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            return _usage_error(f"{path}: {error.strerror}")
    missing = [each for each in measured.missing if "qemu" in each]
    return 1 if measured.wrong or missing else 0


def _files(options: argparse.Namespace, measured: Measured) -> Iterator[tuple[Path, str]]:
    from bench.reports.html.plot import draw
    from bench.versions import versions

    if options.json:
        content = {"versions": versions(), **measured.to_json()}
        yield options.json, json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    if options.plot:
        yield options.plot, draw(measured)


def _usage_error(message: str) -> int:
    print(f"bitexact perf: {message}", file=sys.stderr)
    return 2
