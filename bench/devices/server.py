"""A TVM RPC server whose processes have the simulators."""

from __future__ import annotations

import contextlib
import socket
from functools import partial

from tvm import rpc

from bench.devices import session


def start(host: str, port: int, *, device: str = "sim") -> rpc.Server:
    """Start a server on ``host`` and ``port`` (0: a free one), whose kernels ``device`` executes.

    Raises OSError where the port is taken.
    """
    if port == 0:
        port = _free_port(host)
    else:
        _check_free(host, port)
    return rpc.Server(
        host=host, port=port, port_end=port + 1, server_init_callback=partial(session.register, device=device)
    )


def _free_port(host: str) -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind((host, 0))
        number: int = probe.getsockname()[1]
        return number


def _check_free(host: str, port: int) -> None:
    """TVM's server would look for another port by itself, or fail in a process of its own."""
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
