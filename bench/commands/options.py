"""Values of options, checked as they are parsed, and what is done with bundles."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.compare.verdict import Verdict
    from bench.trace import Trace

Check = Callable[[str], str]


def _one_of(what: str, value: str, valid: tuple[str, ...]) -> str:
    if value not in valid:
        raise argparse.ArgumentTypeError(f"unknown {what} {value!r}: one of {', '.join(valid)}")
    return value


def a_workload(value: str) -> str:
    """The name of a workload."""
    from bench import workloads

    return _one_of("workload", value, workloads.names())


def some_workloads(value: str) -> list[str]:
    """``all``, or the name of a workload."""
    from bench import workloads

    names = workloads.names()
    return list(names) if _one_of("workload", value, (*names, "all")) == "all" else [value]


def some_targets(value: str) -> list[str]:
    """``all``, or targets separated by commas, each once and in the order given."""
    from bench.flows.names import TARGETS

    if value == "all":
        return list(TARGETS)
    named = [_one_of("target", name, (*TARGETS, "all")) for name in value.split(",")]
    if "all" in named:
        return list(TARGETS)
    return list(dict.fromkeys(named))


def a_target(value: str) -> str:
    """The name of one target."""
    from bench.flows.names import TARGETS

    return _one_of("target", value, TARGETS)


def some_device(value: str) -> str:
    """``host``, ``sim``, ``cuda``, ``rpc://HOST:PORT`` or ``tracker://HOST:PORT/KEY``."""
    from bench.devices import names

    try:
        return names.check(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def a_local_device(value: str) -> str:
    """A device that is no server; of a board, whose driver is there.

    The path of a driver is made absolute: a server's sessions have a folder of their own.
    """
    from bench.devices.names import LOCAL_DEVICES, is_driver, split_driver

    if not is_driver(value):
        return _one_of("device", value, (*LOCAL_DEVICES, "FILE.py:CLASS"))
    file, name = split_driver(value)
    if not Path(file).is_file():
        raise argparse.ArgumentTypeError(f"{value!r}: there is no file {file}")
    return f"{Path(file).resolve()}:{name}"


def a_port(value: str) -> int:
    """A port number, 0 for a free one."""
    if not value.isdigit() or int(value) > 65535:
        raise argparse.ArgumentTypeError(f"{value!r} is not a port from 0 to 65535")
    return int(value)


def an_address(value: str) -> tuple[str, int]:
    """``HOST:PORT``."""
    from bench.devices.names import Server, parse_remote

    server = parse_remote(f"rpc://{value}")
    if not isinstance(server, Server):
        raise argparse.ArgumentTypeError(f"{value!r} is not HOST:PORT")
    return server.host, server.port


def a_key(value: str) -> str:
    """The key of a tracker's servers."""
    from bench.devices.names import Tracked, parse_remote

    if not isinstance(parse_remote(f"tracker://host:1/{value}"), Tracked):
        raise argparse.ArgumentTypeError(f"{value!r} is no key: a word without blanks, colons and slashes")
    return value


def a_fault(value: str) -> str:
    """The name of a fault."""
    from bench.faults import FAULTS

    return _one_of("fault", value, tuple(FAULTS))


def a_vta_profile(value: str) -> str:
    """The name of one of VTA's backends, or ``all``."""
    from simulators.vta.profiles import PROFILES

    return _one_of("profile", value, (*PROFILES, "all"))


def a_batch(value: str) -> int:
    """A positive number of images."""
    return int(_positive(value, int, "a whole number of images"))


def a_number_of_jobs(value: str) -> int:
    """A positive number of processes."""
    return int(_positive(value, int, "a whole number of jobs"))


def a_number_of_examples(value: str) -> int:
    """A positive number of examples."""
    return int(_positive(value, int, "a whole number of examples"))


def a_count(value: str) -> int:
    """A whole number above 0."""
    return int(_positive(value, int, "a whole number"))


def a_seed(value: str) -> int:
    """A whole number from 0."""
    if not value.isdigit():
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number from 0")
    return int(value)


def an_image_size(value: str) -> int:
    """A positive number of pixels."""
    return int(_positive(value, int, "a whole number of pixels"))


def a_number(value: str) -> float:
    """A positive number."""
    return _positive(value, float, "a number")


def a_timeout(value: str) -> float:
    """A positive number of seconds."""
    return _positive(value, float, "a number of seconds")


def _positive(value: str, kind: Callable[[str], float], what: str) -> float:
    try:
        number = kind(value)
    except ValueError:
        number = 0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{value!r} is not {what} above 0")
    return number


def add_bundles(parser: argparse.ArgumentParser) -> None:
    """Add ``--bundles``: where failing cases are kept."""
    from bench.bundle_folder import DEFAULT, VARIABLE, default_folder

    parser.add_argument(
        "--bundles",
        type=a_bundle_folder,
        default=default_folder(),
        metavar="DIR",
        help=f"where a failing case is kept, for bitexact replay (default: {VARIABLE}, or {DEFAULT}); "
        "none: nowhere",
    )


def a_bundle_folder(value: str) -> Path | None:
    """A folder for bundles, or ``none``."""
    return None if value == "none" else Path(value)


def kept(bundles: Path | None, verdict: Verdict, trace: Trace, *, seed: int | None = None) -> None:
    """Keep a failing case, and say where, or why it could not be kept."""
    from bench import bundles as bundling

    try:
        bundling.keep(bundles, verdict, trace, seed=seed)
    except (OSError, ValueError) as error:
        print(f"bitexact: the failing case could not be kept in {bundles}: {error}", file=sys.stderr)
