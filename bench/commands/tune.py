"""``bitexact tune``: search for better schedules of tensor-core kernels, and keep them for later runs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.commands.options import a_batch, a_seed, a_workload, an_image_size
from bench.commands.progress import Progress
from bench.whole_file import write_whole

if TYPE_CHECKING:
    from bench.tuning.layer import TunedLayer

DTYPES = ("int8", "int4")
SIZES = "N,IC,H,OC,k,s,p"


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "tune",
        help="search for better schedules of tensor-core kernels with TVM's MetaSchedule",
        description="Breeds schedules of every tensor-core kernel of a workload, or of convolutions, runs "
        "each on the PTX machine or a GPU, and keeps the records for later runs. Exit status 1 where a "
        "candidate computed something wrong, which is a fault of the compiler.",
    )
    parser.add_argument(
        "workload",
        nargs="?",
        type=a_workload_or_set,
        help="which network or set of convolutions (bitexact list)",
    )
    parser.add_argument(
        "--conv", type=a_convolution, metavar=SIZES, help="one convolution of square images instead"
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        help="of data and weights (default: int8, or all convolutions of a set, each with its own)",
    )
    parser.add_argument(
        "--trials", type=some_trials, default=32, help="candidates for each kernel (default 32)"
    )
    parser.add_argument(
        "--device",
        choices=("sim", "cuda"),
        default="sim",
        help="what measures: the PTX machine's counters, or the clock of this computer's GPU (default sim)",
    )
    parser.add_argument("--seed", type=a_seed, default=0, help="of candidates and operands (default 0)")
    parser.add_argument("--batch", type=a_batch, help="images of the workload, all in one batch")
    parser.add_argument("--image", type=an_image_size, metavar="PIXELS", help="side of the workload's images")
    parser.add_argument(
        "--database",
        type=Path,
        metavar="DIR",
        help="where records are kept (default: $BITEXACT_TUNING, or bitexact/tuning in the user's cache)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every candidate to a file as well")
    parser.set_defaults(execute=execute)


def a_convolution(value: str) -> tuple[int, ...]:
    """Seven whole numbers: batch, channels, height and width, output channels, kernel, stride, padding."""
    parts = value.split(",")
    if len(parts) != SIZES.count(",") + 1 or not all(part.strip().isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"{value!r} is not {SIZES} in whole numbers, like 8,64,56,64,3,1,1")
    return tuple(map(int, parts))


def a_workload_or_set(value: str) -> str:
    """The name of a workload, or of a set of convolutions."""
    from bench.tuning.sets import SETS

    if value in SETS:
        return value
    try:
        return a_workload(value)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or the set {', '.join(SETS)}") from None


def some_trials(value: str) -> int:
    """A whole number above 0."""
    if not value.isdigit() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number of trials above 0")
    return int(value)


def execute(options: argparse.Namespace) -> int:
    """Tune each kernel and print what was gained; the status says whether every candidate was right."""
    from bench.devices.machines import machine_for
    from bench.reports import tuning as report
    from bench.tuning import records
    from bench.tuning.search import tune

    if reason := _contradiction(options):
        return _usage_error(reason)
    folder: Path | None = options.database or records.default_folder()
    if folder is None:
        return _usage_error(f"{records.VARIABLE} is empty: name a folder for the records with --database DIR")
    if missing := machine_for("tensorcore", options.device).missing():
        print(f"device-missing: {missing}", file=sys.stderr)
        return 1
    kept = records.device_folder(folder, options.device)
    try:
        layers = _layers(options)
        database = records.open_database(kept)
    except ValueError as error:
        return _usage_error(str(error))
    tunings = []
    with Progress(total=len(layers)) as progress:
        for layer in layers:
            show = progress.of(layer.name)
            show(f"{options.trials} candidates")
            tunings.append(
                tune(
                    layer,
                    database=database,
                    trials=options.trials,
                    seed=options.seed,
                    device=options.device,
                    progress=show,
                )
            )
    print(f"{report.table(tunings)}\n\nseed {options.seed}, device {options.device}, records in {kept}")
    if text := report.failures(tunings):
        print(f"\n{text}")
    if options.json:
        content = report.to_json(tunings, seed=options.seed)
        write_whole(options.json, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return 1 if any(tuning.wrong for tuning in tunings) else 0


def _contradiction(options: argparse.Namespace) -> str | None:
    """What is missing, or which two options do not go together."""
    from bench.tuning.sets import SETS

    if bool(options.workload) == bool(options.conv):
        return f"name a workload, or one convolution with --conv {SIZES}"
    if (options.conv or options.workload in SETS) and (options.batch or options.image):
        return "--batch and --image are of a network; a convolution has its own"
    if options.json and not options.json.resolve().parent.is_dir():
        return f"--json: there is no folder {options.json.parent}"
    return None


def _layers(options: argparse.Namespace) -> list[TunedLayer]:
    from bench.tuning.layer import convolution_layer, network_layers
    from bench.tuning.sets import SETS, layers_of_set

    if options.conv:
        return [convolution_layer(*options.conv, dtype=options.dtype or "int8", seed=options.seed)]
    if options.workload in SETS:
        return layers_of_set(options.workload, dtype=options.dtype, seed=options.seed)
    from bench import workloads
    from bench.passes.quantize import quantize

    workload = workloads.load(options.workload, batch=options.batch, image=options.image)
    bits = 4 if options.dtype == "int4" else 8
    module = quantize(workload.module, workload.calibration, scheme="fixed", data_dtype="int8", bits=bits)
    return network_layers(module, seed=options.seed)


def _usage_error(message: str) -> int:
    print(f"bitexact tune: {message}", file=sys.stderr)
    return 2
