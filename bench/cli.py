"""The command line: ``bitexact`` (the same as ``python -m bench``)."""

from __future__ import annotations

import argparse
import errno
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from bench.whole_file import CannotWrite

USAGE_ERROR = 2
INTERRUPTED = 130
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
COMMANDS = (
    "run",
    "verify",
    "report",
    "replay",
    "fuzz",
    "tune",
    "perf",
    "audit",
    "waivers",
    "listing",
    "doctor",
    "serve",
    "tracker",
    "baseline",
)
"""The modules of bench.commands, in the order in which help shows them."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(USAGE_ERROR)


def build_parser() -> argparse.ArgumentParser:
    """The parser with all commands."""
    parser = _Parser(
        prog="bitexact",
        description="Proves, bit for bit, that a quantised graph still computes the same "
        "after it was compiled for an accelerator.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for command in COMMANDS:
        import_module(f"bench.commands.{command}").add_to(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 where all is exact, 1 where something is not, 2 for a usage error."""
    options = build_parser().parse_args(arguments)
    try:
        status: int = options.execute(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except CannotWrite as error:
        print(f"bitexact {options.command}: {error}", file=sys.stderr)
        return USAGE_ERROR
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        where = error.filename or f"a temporary file in {tempfile.gettempdir()}"
        print(f"bitexact {options.command}: {where}: {error.strerror}", file=sys.stderr)
        return USAGE_ERROR
    return status


if __name__ == "__main__":
    sys.exit(main())
