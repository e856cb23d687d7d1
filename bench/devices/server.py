"""TVM RPC servers whose processes have the simulators, and the tracker that hands them out.

Both are TVM's own. What is added here: a free port, and a server that is started again when it has ended.
TVM's stops listening for good, and yet keeps its port, when one session has been killed (docs/tvm.md).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from tvm import rpc
from tvm.rpc import tracker

from bench.devices import session
from bench.devices.ending import end_with_parent
from bench.devices.failure import DeviceFailure
from bench.devices.names import Server, Tracked
from bench.devices.remote import tracked_servers

ANY_PORT = 0
OFFER_SECONDS = 10.0


class DeviceServer:
    """A server of ``device`` on ``host`` and ``port`` (0: a free one), known to a tracker if one is given.

    Raises OSError where the port is taken.
    """

    def __init__(self, host: str, port: int, *, device: str = "sim", tracked: Tracked | None = None) -> None:
        self.host, self.port = host, _port_to_use(host, port)
        self.address = Server(host, self.port).address
        self.name = f"{socket.gethostname()}:{self.port}"
        self._device, self._tracked = device, tracked
        self._server = self._start()

    def _start(self) -> rpc.Server:
        tracked = self._tracked
        server = rpc.Server(
            host=self.host,
            port=self.port,
            port_end=self.port + 1,
            tracker_addr=(tracked.host, tracked.port) if tracked else None,
            key=tracked.key if tracked else "",
            server_init_callback=partial(_prepare, self._device, self.name),
        )
        if tracked:
            _until_offered(tracked, self.port)
        return server

    def serve(self) -> Iterator[str]:
        """Serve for ever; yields a line whenever the server has been started again."""
        while True:
            self._server.proc.join()
            self._server.terminate()
            self._server = self._start()
            yield f"{self.name}: a session ended badly; the server was started again"

    def terminate(self) -> None:
        """End the server and its sessions."""
        self._server.terminate()


def _until_offered(tracked: Tracked, port: int) -> None:
    """Wait a little for the tracker to know the server; one that is away is tried by TVM for longer."""
    deadline = time.monotonic() + OFFER_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(DeviceFailure):
            if (tracked.key, port) in tracked_servers(tracked):
                return
        time.sleep(0.05)


def _prepare(device: str, name: str) -> None:
    """Runs in the server's process, before it listens; each session is a fork of it."""
    end_with_parent()
    os.register_at_fork(after_in_child=end_with_parent)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started the server, and ends it
    threading.excepthook = _end_process
    session.register(device=device, server=name)


def _end_process(arguments: Any) -> None:
    """A server whose listening thread has ended would keep its port, and answer nobody."""
    print(f"{arguments.exc_type.__name__}: {arguments.exc_value}", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)


def start_tracker(host: str, port: int) -> tracker.Tracker:
    """Start a tracker on ``host`` and ``port`` (0: a free one). Raises OSError where the port is taken."""
    port = _port_to_use(host, port)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # for the process that this starts
    try:
        return tracker.Tracker(host=host, port=port, port_end=port + 1)
    finally:
        signal.signal(signal.SIGINT, before)


def _port_to_use(host: str, port: int) -> int:
    """The port itself where it is free, which TVM would find out in a process of its own; or a free one."""
    with contextlib.closing(socket.socket(_family(host, port))) as probe:
        if port != ANY_PORT:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        number: int = probe.getsockname()[1]
        return number


def _family(host: str, port: int) -> socket.AddressFamily:
    return socket.getaddrinfo(host, port, proto=socket.IPPROTO_TCP)[0][0]
