"""How a device's process ends: by itself, with what it said last, or by us, with all that it started.

A parent that is killed cannot end anything: then the kernel ends the device's process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from typing import Any

LAST_OUTPUT_LINES = 12
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent(how: signal.Signals = signal.SIGKILL) -> None:
    """Have Linux send this process a signal when the thread that started it ends, however that ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, how)


def end_group(process: subprocess.Popen[Any]) -> None:
    """Kill a process that was started in a session of its own, and whatever it started. May be repeated."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def how_ended(code: int) -> str:
    """An exit status in words."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def last_output(log: str) -> str:
    """The end of a log, to be put behind a message; nothing where the log is empty."""
    lines = log.strip().splitlines()
    return "; its last output:\n" + "\n".join(lines[-LAST_OUTPUT_LINES:]) if lines else ""
