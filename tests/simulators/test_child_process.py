"""Children end with the process that started them: by a signal, by an exit, with threads and after a fork."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from simulators import child_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")

STARTS_ONE = """
import os, sys, time, threading
from simulators import child_process

def start():
    child = child_process.start(["sleep", "600"])
    print(child.pid, flush=True)

{how}
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    """Whether a process is there and has not ended (a zombie has)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_gone(pid: int, *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    if is_running(pid):
        os.kill(pid, signal.SIGKILL)
        pytest.fail(f"process {pid} lives on")


HOW = {
    "main thread": "start()",
    "a thread that ended": "thread = threading.Thread(target=start); thread.start(); thread.join()",
    "a fork": "start() if os.fork() == 0 else os.wait()",
    "a fork after the first child": "start(); start() if os.fork() == 0 else os.wait()",
}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_child_ends_with_its_parent(number):
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTS_ONE.format(how="start()")],
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.DEVNULL,
    )
    child = int(parent.stdout.readline())
    assert is_running(child)
    parent.send_signal(number)
    parent.wait()
    wait_until_gone(child)


@pytest.mark.parametrize("how", [name for name in HOW if "fork" not in name])
def test_a_child_lives_as_long_as_the_process_not_as_the_thread(how):
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTS_ONE.format(how=HOW[how])], stdout=subprocess.PIPE, text=True
    )
    child = int(parent.stdout.readline())
    time.sleep(0.3)
    assert is_running(child)
    parent.kill()
    parent.wait()
    wait_until_gone(child)


@pytest.mark.parametrize("how", [name for name in HOW if "fork" in name])
def test_a_forked_process_has_children_of_its_own(how):
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTS_ONE.format(how=HOW[how])],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        children = [int(parent.stdout.readline()) for _ in range(how.count("after") + 1)]
        child = children[-1]
        forked = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
        assert forked != parent.pid
        os.kill(forked, signal.SIGKILL)
        wait_until_gone(child)
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()


def test_a_child_is_used_as_any_other():
    child = child_process.start(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.communicate(b"text")[0] == b"text"
    assert child.returncode == 0
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        child_process.start(["no-such-program"])
    assert threading.active_count() >= 1


def test_elsewhere_than_on_linux_children_are_started_all_the_same(monkeypatch):
    monkeypatch.setattr(child_process, "_prctl", None)
    assert child_process.start(["true"]).wait() == 0
