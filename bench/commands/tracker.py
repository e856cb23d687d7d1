"""``bitexact tracker``: TVM's RPC tracker, which hands out servers by key."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from bench.commands.options import a_port
from bench.commands.serve import LOOPBACK, ended_by_sigterm

DEFAULT_PORT = 9190
WARNING = "warning: a tracker asks nobody who they are: whoever can connect can take servers, and offer some"


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "tracker",
        help="run a TVM RPC tracker, which hands out servers by key",
        description="Runs until it is interrupted; on loopback if no other host is given. It is that of "
        "python -m tvm.exec.rpc_tracker, which listens on all addresses.",
    )
    parser.add_argument("--host", default=LOOPBACK, help=f"address to listen on (default {LOOPBACK})")
    parser.add_argument(
        "--port",
        type=a_port,
        default=DEFAULT_PORT,
        help=f"port, 0 for a free one (default {DEFAULT_PORT})",
    )
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Run until SIGINT or SIGTERM."""
    from bench.devices.names import Server
    from bench.devices.server import start_tracker

    try:
        tracker = start_tracker(options.host, options.port)
    except OSError as error:
        print(f"bitexact tracker: port {options.port} of {options.host}: {error}", file=sys.stderr)
        return 2
    with ended_by_sigterm():
        try:
            print(WARNING, file=sys.stderr)
            print(f"tracker at {Server(options.host, tracker.port).address}", flush=True)
            tracker.proc.join()
        finally:
            tracker.proc.kill()
    print("bitexact tracker: its process ended", file=sys.stderr)
    return 1
