"""One process at a time on a device of which there is one: a GPU of this machine, a server at an address.

Workers of pytest-xdist and several runs side by side wait for each other here, before their time limit
begins. The operating system lets go of the lock of a process that dies.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bench.devices.failure import timeout

LONGEST_WAIT_SECONDS = 3600.0
SHARED = ("host", "sim")
"""Devices of which every process has its own."""
SHARED_SCHEMES = ("tracker://",)
"""A tracker hands its servers out by itself."""


def is_exclusive(device: str) -> bool:
    """Whether only one process at a time should use ``device``."""
    return device not in SHARED and not device.startswith(SHARED_SCHEMES)


def lock_file(device: str) -> Path:
    """The file that all processes of this user lock while they use ``device``."""
    folder = Path(tempfile.gettempdir(), f"bitexact-locks-{os.getuid()}")
    return folder / (re.sub(r"[^A-Za-z0-9.]+", "-", device) + ".lock")


@contextmanager
def exclusive(device: str, *, wait_seconds: float = LONGEST_WAIT_SECONDS) -> Iterator[None]:
    """Hold ``device`` if it is exclusive; wait for whoever has it.

    Raises DeviceFailure (``timeout``) where it is not free within ``wait_seconds``.
    """
    if not is_exclusive(device):
        yield
        return
    path = lock_file(device)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait_seconds)
    except Timeout:
        raise timeout(
            f"device {device} was in use by another process for {wait_seconds:g} s (it holds {path})"
        ) from None
    try:
        yield
    finally:
        lock.release()
