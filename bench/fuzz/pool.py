"""Processes that judge batches: one that dies or hangs costs the case that it died of, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import selectors
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import IO

from bench.devices.ending import end_group, how_ended, last_output
from bench.devices.interpreter import module_command
from bench.fuzz.cases import Batch
from bench.fuzz.outcome import Outcome

SECONDS = 120.0
"""What a batch may take, and for each of its cases"""
SECONDS_PER_CASE = 30.0


class WorkerEndedError(Exception):
    """A process gave no answer: it died (``crash``), or took too long (``timeout``)."""

    def __init__(self, verdict: str, message: str) -> None:
        super().__init__(message)
        self.verdict = verdict


class Judge:
    """One process that judges, started when it is needed and again after it died."""

    def __init__(self, command: Sequence[str] = (), *, seconds: float = SECONDS) -> None:
        self._command = command or module_command("bench.fuzz.worker")
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._ended = False

    def judge(self, batch: Batch) -> list[Outcome]:
        """The outcomes of a batch.

        Where the process dies or does not answer, the two halves are judged by a new one, down to the case
        that ends it.
        """
        try:
            return self._ask(batch)
        except WorkerEndedError as end:
            if self._ended:
                return []
            self.close()
            if len(batch.indices) == 1:
                return [Outcome(batch.indices[0], end.verdict, cause=str(end))]
        return [outcome for half in batch.halves() for outcome in self.judge(half)]

    def _ask(self, batch: Batch) -> list[Outcome]:
        process = self._process or self._start()
        assert process.stdin is not None
        limit = self._seconds + SECONDS_PER_CASE * len(batch.indices)
        with contextlib.suppress(BrokenPipeError):  # what it died of is said below
            process.stdin.write(json.dumps(batch.to_json()).encode() + b"\n")
            process.stdin.flush()
        return [Outcome(**each) for each in json.loads(self._line(process, limit))]

    def _start(self) -> subprocess.Popen[bytes]:
        if self._ended:
            raise WorkerEndedError("crash", "the search has ended")
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            # Ctrl-C is for the process that asked, which ends this one.
            start_new_session=True,
            # The processes share the cores as it is.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "TVM_NUM_THREADS": "1"},
        )
        return self._process

    def _line(self, process: subprocess.Popen[bytes], limit: float) -> bytes:
        """The next line that the process writes."""
        assert process.stdout is not None
        deadline = time.monotonic() + limit
        received = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not received.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise WorkerEndedError("timeout", f"no result after {limit:g} s")
                piece = os.read(process.stdout.fileno(), 1 << 16)
                if not piece:
                    raise WorkerEndedError("crash", self._death(process))
                received += piece
        return bytes(received)

    def _death(self, process: subprocess.Popen[bytes]) -> str:
        how = how_ended(process.wait())
        assert self._log is not None
        self._log.seek(0)
        return f"the process ended ({how}){last_output(self._log.read().decode(errors='replace'))}"

    def end(self) -> None:
        """End the process, whoever waits for it, and start none any more."""
        self._ended = True
        if self._process:
            end_group(self._process)

    def close(self) -> None:
        """End the process and all it started. May be called again."""
        if self._process:
            end_group(self._process)
            for stream in (self._process.stdin, self._process.stdout, self._log):
                with contextlib.suppress(BrokenPipeError):
                    stream.close()  # type: ignore[union-attr]
        self._process = None


class Pool:
    """Several judges at work at once; a context manager that ends them all."""

    def __init__(self, jobs: int, *, judges: Callable[[], Judge] = Judge) -> None:
        self._judges = [judges() for _ in range(jobs)]
        self._threads: list[threading.Thread] = []
        self._ended = False

    def outcomes(self, batches: Iterator[Batch]) -> Iterator[list[Outcome]]:
        """What comes of each batch, in the order of the batches, as far as ``batches`` goes.

        A batch is taken only when a process is free for it.
        """
        results: queue.Queue[tuple[int, list[Outcome] | BaseException]] = queue.Queue()
        numbered, lock = enumerate(batches), threading.Lock()

        def work(judge: Judge) -> None:
            try:
                while not self._ended:
                    with lock:
                        number, batch = next(numbered)
                    results.put((number, judge.judge(batch)))
            except StopIteration:
                results.put((-1, []))
            except BaseException as error:
                results.put((-1, error))

        self._threads = [threading.Thread(target=work, args=(judge,), daemon=True) for judge in self._judges]
        for thread in self._threads:
            thread.start()
        waiting: dict[int, list[Outcome]] = {}
        working, wanted = len(self._threads), 0
        while working:
            number, result = results.get()
            if isinstance(result, BaseException):
                raise result
            if number < 0:
                working -= 1
            else:
                waiting[number] = result
            while wanted in waiting:
                yield waiting.pop(wanted)
                wanted += 1

    def close(self) -> None:
        """End every process."""
        self._ended = True
        for judge in self._judges:
            judge.end()
        for thread in self._threads:
            thread.join(5)
        for judge in self._judges:
            judge.close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
