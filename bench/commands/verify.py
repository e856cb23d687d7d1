"""``bitexact verify``: a schedule of the user's own against a reference."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bench.commands.options import (
    a_number_of_examples,
    a_seed,
    a_target,
    a_timeout,
    add_bundles,
    kept,
    some_device,
)

if TYPE_CHECKING:
    from bench.compare.verdict import Verdict

KERNEL, REFERENCE, BLOCK, SHAPES = "kernel", "reference", "block", "shapes"


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "verify",
        help="run a schedule of your own on a target's machine and compare it with a reference",
        description="FILE.py defines the kernel: a scheduled PrimFunc, an IRModule, a Schedule, a VTA "
        "program, or a function that schedules a PrimFunc; its name is NAME, or 'kernel'. 'reference' in the "
        "same file is a NumPy function or a PrimFunc, 'block' the PrimFunc that a function schedules. With "
        "'shapes', a list or a Hypothesis strategy, 'block' (or else the kernel) is a function of a shape.",
    )
    parser.add_argument("file", metavar="FILE.py[::NAME]", help="the kernel")
    parser.add_argument("--target", type=a_target, required=True, help="tensorcore, hexagon or vta")
    parser.add_argument(
        "--device",
        type=some_device,
        default="sim",
        help="sim (default), or another (bitexact list)",
    )
    parser.add_argument("--reference", metavar="NAME", help="name of the reference in FILE.py")
    parser.add_argument("--instruction", metavar="NAME", help="fail unless the kernel executed it")
    parser.add_argument(
        "--examples", type=a_number_of_examples, default=20, help="shapes drawn from a strategy (default 20)"
    )
    parser.add_argument("--seed", type=a_seed, default=0, help="of the operands (default 0)")
    parser.add_argument("--timeout", type=a_timeout, default=600.0, metavar="SECONDS")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdict to a file as well")
    add_bundles(parser)
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Load the file, verify, and print the verdict."""
    from bench.reports import json_file
    from bench.reports.table import details, verdict_table
    from bench.trace import Trace
    from bench.verification.verify import verify

    path, _, name = options.file.partition("::")
    trace = Trace()
    try:
        module = load_file(Path(path))
        verdict = verify(
            named(module, name or KERNEL),
            named(module, options.reference) if options.reference else getattr(module, REFERENCE, None),
            options.target,
            options.device,
            block=getattr(module, BLOCK, None),
            shapes=getattr(module, SHAPES, None),
            examples=options.examples,
            instruction=options.instruction,
            seed=options.seed,
            timeout=options.timeout,
            name=f"{path}::{name or KERNEL}",
            trace=trace,
        )
    except ValueError as error:
        print(f"bitexact verify: {error}", file=sys.stderr)
        return 2
    kept(options.bundles, verdict, trace, seed=options.seed)
    print(verdict_table([verdict]))
    print(f"\n{verdict.workload}, seed {options.seed}{_shapes(verdict)}")
    if text := details(verdict):
        print(text)
    if options.json:
        json_file.write(options.json, [verdict], seed=options.seed)
    return 0 if verdict.exact else 1


def _shapes(verdict: Verdict) -> str:
    """What was verified, in words: the tensors of the kernel, or how many shapes."""
    if verdict.shapes_tried and verdict.exact:
        return f": {verdict.shapes_tried} shapes"
    tried = ""
    if verdict.shape:
        tried = f", {verdict.shapes_tried} shapes; the smallest that fails is {verdict.shape}"
    return f"{tried}: {verdict.layers[0].shapes}" if verdict.layers else tried


def load_file(path: Path) -> ModuleType:
    """Import a Python file by its path. ValueError says why it cannot be."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # TVMScript looks for the source of what it parses
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{path} raised {type(error).__name__}: {error}") from error
    return module


def named(module: ModuleType, name: str) -> Any:
    """What a file calls ``name``; ValueError lists what it defines."""
    if not hasattr(module, name):
        defined = [each for each in vars(module) if not each.startswith("_")]
        raise ValueError(
            f"{module.__file__} defines no {name!r}; it defines {', '.join(defined) or 'nothing'}"
        )
    return getattr(module, name)
