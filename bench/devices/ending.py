"""How a device's process ends: by itself, with what it said last, or by us, with all that it started.

A parent that is killed cannot end anything: then the device's process ends itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from typing import Any

LAST_OUTPUT_LINES = 12
PARENT_CHECK_SECONDS = 1.0


def end_with_parent() -> None:
    """Kill this process's group soon after its parent has died, whatever hangs in it.

    For a process that :func:`end_group` would end: the leader of a group that holds its simulators.
    """
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)
    if os.getpgrp() == os.getpid():  # not the group of a shell, where this was started by hand
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


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
