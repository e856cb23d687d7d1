"""Several cases at once, each in a process of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from bench.devices.ending import end_with_parent, how_ended

Case = TypeVar("Case")
Result = TypeVar("Result")
Hear = Callable[[str], None]
END_SECONDS = 10.0


class CaseDied(Exception):  # noqa: N818 - what happened to it, not an error of ours
    """The process of a case ended without a result; the message says how."""


def spread(
    function: Callable[[Case, Hear], Result],
    cases: Sequence[Case],
    *,
    jobs: int,
    hear: Callable[[int, str], None] = lambda _number, _step: None,
) -> Iterator[tuple[int, Result | CaseDied]]:
    """Call ``function`` for each case, ``jobs`` of them at once, and yield number and result as they end.

    ``function``, cases and results are pickled; ``function`` is given what ``hear`` hears. An error that it
    raises is raised here. When this ends, however it does, no process is left.
    """
    spreading = _Spread(function)
    waiting = deque(enumerate(cases))
    try:
        while waiting or spreading.running:
            while waiting and len(spreading.running) < jobs:
                number, case = waiting.popleft()
                spreading.start(number, case)
            for receiver in wait(list(spreading.running)):
                assert isinstance(receiver, Connection)
                number, _ = spreading.running[receiver]
                kind, content = spreading.receive(receiver)
                if kind == "step":
                    hear(number, content)
                elif kind == "error":
                    raise content
                else:
                    yield number, content
    finally:
        spreading.end()


class _Spread(Generic[Case, Result]):
    """The processes that run, by the pipe from each."""

    def __init__(self, function: Callable[[Case, Hear], Result]) -> None:
        self._function = function
        self._context = multiprocessing.get_context("spawn")  # TVM has threads, which a fork would lose
        self.running: dict[Connection, tuple[int, BaseProcess]] = {}

    def start(self, number: int, case: Case) -> None:
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_run, args=(self._function, case, sender))
        process.start()
        sender.close()
        self.running[receiver] = number, process

    def receive(self, receiver: Connection) -> tuple[str, Any]:
        """What a process says next; after its result it is no longer among those that run."""
        _, process = self.running[receiver]
        try:
            message: tuple[str, Any] = receiver.recv()
        except EOFError:
            process.join()
            assert process.exitcode is not None
            how = how_ended(process.exitcode)
            message = "died", CaseDied(f"the process of the case ended without a result ({how})")
        if message[0] != "step":
            del self.running[receiver]
            receiver.close()
            process.join()
        return message

    def end(self) -> None:
        """End what still runs, with all that it started."""
        for _, process in self.running.values():
            process.terminate()
        for receiver, (_, process) in self.running.items():
            process.join(END_SECONDS)
            process.kill()
            process.join()
            receiver.close()
        self.running.clear()


def _run(function: Callable[[Case, Hear], Result], case: Case, sender: Connection) -> None:
    """In the process of a case."""
    # Both end what the case has started; Ctrl-C reaches all processes of a terminal.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(1))
    end_with_parent(signal.SIGTERM)
    with contextlib.suppress(BrokenPipeError):
        try:
            result = function(case, lambda step: sender.send(("step", step)))
        except Exception as error:
            sender.send(("error", error))
        else:
            sender.send(("result", result))
