"""Servers and trackers of the tests: started as a user does, ended, and nothing left of them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]


@dataclass
class Started:
    """A command that serves, and where."""

    process: subprocess.Popen[str]
    address: str

    @property
    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def sessions(self) -> list[psutil.Process]:
        """TVM's server is the command's child, and its sessions are the children of that."""
        (server,) = psutil.Process(self.process.pid).children()
        return server.children()

    def until(self, pattern: str) -> str:
        """Read what the command says until a line matches."""
        assert self.process.stdout is not None
        said = []
        for line in self.process.stdout:
            said.append(line)
            if re.search(pattern, line):
                return line
        raise AssertionError(f"no {pattern!r} in:\n{''.join(said)}")


@contextlib.contextmanager
def started(command: str, *options: str) -> Iterator[Started]:
    """``bitexact serve`` or ``bitexact tracker``; SIGTERM ends it with all it started."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", command, *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            running = Started(process, "")
            line = running.until(r"^(serving|tracker at) ")
            running.address = re.split("[/ ]", line.strip())[-1]
            yield running
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            with pytest.raises(ProcessLookupError):
                os.killpg(process.pid, 0)  # nothing of it is left
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def serving(*options: str) -> Iterator[Started]:
    """A server on a free port; with a tracker, known to it."""
    with started("serve", "--port", "0", *options) as server:
        yield server
