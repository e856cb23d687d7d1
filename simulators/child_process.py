"""Child processes that end with the process that started them, however that one ends.

A simulator that hangs does not see that its client is gone. Linux kills a child when the thread that started
it ends (`prctl`, PR_SET_PDEATHSIG), so all children are started by one thread that lives as long as the
process. Elsewhere than on Linux they are children like any others.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def start(command: Sequence[str], **options: Any) -> "subprocess.Popen[Any]":
    """Start a process as subprocess.Popen does; it is killed when this process ends. Raises OSError."""
    if _prctl is None:
        return subprocess.Popen(command, **options)
    parent = os.getpid()

    def end_with_parent() -> None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # It ended in the meantime.
            os._exit(1)

    def popen() -> "subprocess.Popen[Any]":
        # Between fork and exec another thread may hold a lock: nothing here takes one.
        return subprocess.Popen(command, preexec_fn=end_with_parent, **options)  # noqa: PLW1509

    return _starter(parent).submit(popen).result()


@cache
def _starter(process: int) -> ThreadPoolExecutor:
    """Give the thread that starts the children of a process: a forked one has none of the threads."""
    del process
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="children")
