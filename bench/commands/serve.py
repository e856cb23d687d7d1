"""``bitexact serve``: a TVM RPC server that has the simulators, for ``rpc://`` and ``tracker://`` devices."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.commands.options import a_key, a_local_device, a_port, an_address

DEFAULT_PORT = 9090
LOOPBACK = "127.0.0.1"
WARNING = "warning: TVM RPC runs whatever it is sent: whoever can connect can run any code as this user"


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "serve",
        help="run a TVM RPC server with the simulators, by itself or known to a tracker",
        description="Serves until it is interrupted; on loopback if no other host is given, as TVM RPC runs "
        "whatever it is sent. A session that ends badly does not end the server.",
    )
    parser.add_argument(
        "--device",
        type=a_local_device,
        default="sim",
        help="what executes: sim (default), cuda, host, or a board's driver, FILE.py:CLASS",
    )
    parser.add_argument("--host", default=LOOPBACK, help=f"address to listen on (default {LOOPBACK})")
    parser.add_argument(
        "--port",
        type=a_port,
        help=f"port, 0 for a free one (default {DEFAULT_PORT}; with --tracker a free one)",
    )
    parser.add_argument("--tracker", type=an_address, metavar="HOST:PORT", help="offer this server there")
    parser.add_argument("--key", type=a_key, help="under which name: servers of one key are alike")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; at once to the end where the device or the tracker is missing."""
    from bench.devices.execution import require_device
    from bench.devices.failure import DeviceFailure
    from bench.devices.names import Tracked
    from bench.devices.remote import served_keys
    from bench.devices.server import ANY_PORT, DeviceServer

    if bool(options.tracker) != bool(options.key):
        return _usage_error("--tracker and --key go together")
    tracked = None
    if options.tracker:
        host, tracker_port = options.tracker
        tracked = Tracked(host, tracker_port, options.key)
    port = options.port if options.port is not None else ANY_PORT if tracked else DEFAULT_PORT
    try:
        if options.device == "cuda":
            require_device("tensorcore", options.device)
        if tracked:
            served_keys(tracked)
        server = DeviceServer(options.host, port, device=options.device, tracked=tracked)
    except DeviceFailure as failure:
        print(f"bitexact serve: {failure.verdict}: {failure}", file=sys.stderr)
        return 1
    except OSError as error:
        return _usage_error(f"port {port} of {options.host}: {error}")
    with ended_by_sigterm():
        try:
            print(WARNING, file=sys.stderr)
            # A server that is known to a tracker takes only clients that the tracker has sent.
            where = f"{tracked.name} on {server.address}" if tracked else f"rpc://{server.address}"
            print(f"serving {where}", flush=True)
            for line in server.serve():
                print(line, file=sys.stderr, flush=True)
        finally:
            server.terminate()
    return 0


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM is how a server is ended: it is exit status 0."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _usage_error(message: str) -> int:
    print(f"bitexact serve: {message}", file=sys.stderr)
    return 2
