"""A connection to a TVM RPC server, named by its address or asked for at a tracker.

Only for processes that may be killed: a server that accepts a connection and never answers cannot be left.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tvm import rpc

from bench.artifact import FORMAT
from bench.devices import session
from bench.devices.failure import DeviceFailure, device_missing, last_line
from bench.devices.names import Server, Tracked

TRACKER_SECONDS = 10.0
"""How long a tracker may take to say which servers there are."""
SERVER_MARGIN_SECONDS = 5
"""How much later than its client a server gives a session up."""


@dataclass(frozen=True)
class Connection:
    """A session of a server: the device that the server serves, and its name."""

    session: Any
    device: str
    server: str

    def missing(self, target: str) -> str | None:
        """Why the server cannot run artefacts of ``target``; None where it can."""
        return str(self.session.get_function(session.MISSING)(target)) or None

    def alive(self) -> bool:
        """Whether the server still answers."""
        try:
            self.session.get_function(session.ABOUT)()
        except Exception:
            return False
        return True


def connect(remote: Server | Tracked, *, timeout: float, known: bool = False) -> Connection:
    """Connect to a server, with a session that ends a little later than after ``timeout`` seconds.

    At a tracker, wait as long for a server of the key to be free. A key that no server has is missing at
    once, unless it is ``known``: then one that went away is waited for. Raises DeviceFailure
    ``device-missing``, which says what to type.
    """
    if isinstance(remote, Tracked):
        return _connected(_request(remote, timeout=timeout, known=known), remote.address)
    where = remote.address
    try:
        connected = rpc.connect(remote.host, remote.port, session_timeout=_session_seconds(timeout))
    except Exception as error:
        raise device_missing(
            f"no RPC server at {where} (start one: bitexact serve --port {remote.port}): {last_line(error)}"
        ) from None
    return _connected(connected, where)


def _session_seconds(timeout: float) -> int:
    return int(timeout) + SERVER_MARGIN_SECONDS


def _connected(connected: Any, where: str) -> Connection:
    """The session of a server that has our functions, of this version."""
    try:
        about = json.loads(str(connected.get_function(session.ABOUT)()))
    except AttributeError:
        raise device_missing(
            f"the RPC server at {where} has no simulators: start it with bitexact serve"
        ) from None
    if about["format"] != FORMAT:
        raise device_missing(
            f"the server {about['server']} takes artefacts of format {about['format']}, and these are of "
            f"format {FORMAT}: install the same version of bitexact on both sides"
        )
    return Connection(connected, about["device"], about["server"])


def _request(tracked: Tracked, *, timeout: float, known: bool) -> Any:
    """A session of the next free server of a key."""
    where = tracked.address
    deadline = time.monotonic() + timeout
    keys: list[str] = []
    error: Exception | None = None
    while (seconds := deadline - time.monotonic()) > 0:
        keys = served_keys(tracked)
        if tracked.key not in keys and not known:
            served = ", ".join(sorted(set(keys))) or "none"
            raise device_missing(
                f"no server of key {tracked.key!r} at the tracker {where} (keys: {served}); start one: "
                f"bitexact serve --tracker {where} --key {tracked.key}"
            )
        try:
            with _sockets_give_up_after(seconds):
                # One try each: a server that is gone costs no more than the next request.
                return rpc.connect_tracker(tracked.host, tracked.port).request(
                    tracked.key, session_timeout=_session_seconds(timeout), max_retry=1
                )
        except (OSError, RuntimeError) as raised:
            error = raised
    count = keys.count(tracked.key)
    servers = "no server" if not count else "the only server" if count == 1 else f"none of {count} servers"
    free = "was there" if not count else "was not free" if count == 1 else "was free"
    raise device_missing(
        f"{servers} of key {tracked.key!r} at the tracker {where} {free} within {timeout:g} s: "
        f"{last_line(error) if error else 'no answer'}"
    )


def served_keys(tracked: Tracked) -> list[str]:
    """The key of each server that the tracker knows. Raises DeviceFailure where there is no tracker."""
    return [key for key, _ in tracked_servers(tracked)]


def tracked_servers(tracked: Tracked) -> list[tuple[str, int]]:
    """Key and port of each server that the tracker knows. Raises DeviceFailure where there is no tracker."""
    try:
        # TVM would try for a minute to connect to a port where nobody listens.
        socket.create_connection((tracked.host, tracked.port), TRACKER_SECONDS).close()
        with _sockets_give_up_after(TRACKER_SECONDS):
            servers = rpc.connect_tracker(tracked.host, tracked.port).summary()["server_info"]
    except Exception as error:
        raise device_missing(
            f"no RPC tracker at {tracked.address} (start one: bitexact tracker --port {tracked.port}): "
            f"{last_line(error)}"
        ) from None
    return [(server["key"].removeprefix("server:"), server["addr"][1]) for server in servers]


@contextlib.contextmanager
def _sockets_give_up_after(seconds: float) -> Iterator[None]:
    """TVM's connection to a tracker takes no time limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def lost(connection: Connection, error: Exception) -> DeviceFailure:
    """The failure of a server that no longer answers."""
    return DeviceFailure(
        "crash", f"the server {connection.server} was lost: {last_line(error)}", lost_server=connection.server
    )
