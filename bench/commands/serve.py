"""``bitexact serve``: a TVM RPC server that has the simulators, for ``--device rpc://HOST:PORT``."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import Any

DEFAULT_PORT = 9190
LOOPBACK = "127.0.0.1"


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "serve",
        help="run a TVM RPC server with the simulators on this machine's loopback",
        description="Serves until it is interrupted, on loopback only: whoever can reach it can run code.",
    )
    parser.add_argument("--port", type=a_port, default=DEFAULT_PORT, help=f"port (default {DEFAULT_PORT})")
    parser.add_argument(
        "--device", choices=("sim", "cuda"), default="sim", help="what executes kernels (default sim)"
    )
    parser.set_defaults(execute=execute)


def a_port(value: str) -> int:
    """A port number, 0 for a free one."""
    if not value.isdigit() or int(value) > 65535:
        raise argparse.ArgumentTypeError(f"{value!r} is not a port from 0 to 65535")
    return int(value)


def execute(options: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; at once to the end where the device is missing."""
    from bench.devices.execution import require_device
    from bench.devices.failure import DeviceFailure
    from bench.devices.server import start

    try:
        if options.device == "cuda":
            require_device("tensorcore", options.device)
        server = start(LOOPBACK, options.port, device=options.device)
    except DeviceFailure as failure:
        print(f"bitexact serve: {failure.verdict}: {failure}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"bitexact serve: port {options.port} of {LOOPBACK}: {error}", file=sys.stderr)
        return 2
    print(f"serving rpc://{LOOPBACK}:{server.port}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        signal.pause()
    finally:
        server.terminate()
    return 0
