"""``bitexact replay``: a kept failing case again, on this machine."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.commands.options import a_timeout, some_device
from bench.commands.progress import LongProgress, Progress

if TYPE_CHECKING:
    from bench.bundles import Bundle
    from bench.compare.verdict import Verdict


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "replay",
        help="run a failing case that was kept as a bundle again",
        description="Executes the artefact in a bundle on the inputs in it and compares every tensor again. "
        "The artefact is machine code, a part of it for this CPU: replay what you trust. Exit status 0 only "
        "where the verdict is exact, which means that the failure was not reproduced.",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the directory")
    parser.add_argument("--device", type=some_device, help="instead of the bundle's own")
    parser.add_argument(
        "--rebuild", action="store_true", help="compile again from the integer graph, with the bench as it is"
    )
    parser.add_argument(
        "--minimise",
        action="store_true",
        help="make the case smaller while it fails the same way, and write it as a bundle beside this one",
    )
    parser.add_argument(
        "--seconds",
        type=a_timeout,
        default=60.0,
        metavar="SECONDS",
        help="limit for --minimise (default 60)",
    )
    parser.add_argument("--timeout", type=a_timeout, default=600.0, metavar="SECONDS")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdict to a file as well")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Replay, print, and say whether the failure is the same."""
    from bench.bundles import read
    from bench.reports import json_file
    from bench.reports.table import details, verdict_table

    try:
        bundle = read(options.bundle)
        _print_bundle(bundle)
        verdict = _minimised(bundle, options) if options.minimise else _replayed(bundle, options)
    except ValueError as error:
        print(f"bitexact replay: {error}", file=sys.stderr)
        return 2
    print(f"\n{verdict_table([verdict])}")
    if text := details(verdict):
        print(f"\n{text}")
    if not options.minimise:
        print(f"\n{compared(bundle, verdict)}")
    if options.json:
        json_file.write(options.json, [verdict], seed=bundle.seed)
    return 0 if verdict.exact else 1


def _replayed(bundle: Bundle, options: argparse.Namespace) -> Verdict:
    from bench.bundles import replay

    with Progress(total=1) as progress:
        return replay(
            bundle,
            device=options.device,
            rebuild=options.rebuild,
            timeout=options.timeout,
            progress=progress.of(bundle.target),
        )


def _minimised(bundle: Bundle, options: argparse.Namespace) -> Verdict:
    """The verdict on the smallest case that was found, which is a bundle of its own then."""
    from bench.minimise.bundle import minimise_bundle

    with LongProgress() as progress:
        path, verdict, found = minimise_bundle(
            bundle,
            Path(os.path.relpath(bundle.path.resolve().parent)),
            device=options.device,
            seconds=options.seconds,
            progress=progress,
        )
    verdict.bundle = str(path)
    print(f"minimised: {found.text}")
    return verdict


def _print_bundle(bundle: Bundle) -> None:
    fault = f", planted fault {bundle.fault}" if bundle.fault else ""
    seed = "" if bundle.seed is None else f", seed {bundle.seed}"
    print(f"{bundle.path}: {bundle.target} on {bundle.device}{seed}{fault}: {bundle.verdict['verdict']}")
    for name, (then, here) in bundle.other_versions().items():
        print(f"  {name} is {here or 'not installed'} here; it was {then or 'not recorded'}")


def compared(bundle: Bundle, verdict: Verdict) -> str:
    """Whether a replay ended as the bundle says."""
    from bench.bundles.signature import signature

    before, now = signature(bundle.verdict), signature(verdict.to_json())
    if before == now:
        return f"reproduced: {now}"
    return f"not reproduced: the bundle has {before}; this is {now}"
