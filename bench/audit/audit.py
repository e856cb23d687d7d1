"""Plant each fault in a process of its own, and see whether the check that is named for it notices."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

from bench.audit.checks import CHECKS
from bench.audit.fault import AuditFault
from kernels.faults import FaultNotPlanted

CAUGHT, MISSED = "caught", "missed"
NOT_PLANTED = "not planted"
FAILED = "failed"
NOT_RUN = "not run"
QUIET, ALARM = "quiet", "false alarm"
DEFAULT_TIMEOUT = 120.0


@dataclass(frozen=True)
class Outcome:
    """What became of one fault, or of a check on the bench as it is (``fault`` None).

    ``result`` is CAUGHT (or QUIET, of a check without a fault) where all is well; MISSED (or ALARM);
    NOT_PLANTED where the place of the fault is no longer there; FAILED where the check itself came to no end;
    NOT_RUN where its simulator is missing. ``evidence`` is what the check said, or the reason.
    """

    fault: AuditFault | None
    check: str
    result: str
    evidence: str
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether the bench did what it should."""
        return self.result in (CAUGHT, QUIET)


def audit(
    faults: Sequence[AuditFault],
    *,
    jobs: int | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    listen: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """Plant every fault, each by itself, and run its check; every check runs on the bench as it is, too.

    A check that raises an alarm without a fault would catch anything, so it proves nothing. ``jobs`` faults
    (default: as many as there are processors) are planted at a time, each in a forked process that has
    ``timeout`` seconds. ``listen`` hears each outcome at once. Returns the checks first, then the faults, in
    their order.
    """
    for check in CHECKS.values():
        check.prepare()
    work = _alone({fault.check for fault in faults}) + [_Work((fault.check,), fault) for fault in faults]
    outcomes: dict[int, list[Outcome]] = {}
    for place, found in _forked(work, jobs or os.cpu_count() or 1, timeout):
        outcomes[place] = found
        for outcome in found:
            listen(outcome)
    return [outcome for place in range(len(work)) for outcome in outcomes[place]]


@dataclass(frozen=True)
class _Work:
    """What one process does: the checks of one fault, which is one check; or those of a group, without."""

    checks: tuple[str, ...]
    fault: AuditFault | None = None


def _alone(names: set[str]) -> list[_Work]:
    """The checks without a fault, by groups."""
    groups: dict[str, list[str]] = {}
    for name, check in CHECKS.items():
        if name in names:
            groups.setdefault(check.group or name, []).append(name)
    return [_Work(tuple(group)) for group in groups.values()]


@dataclass
class _Running:
    place: int
    process: multiprocessing.process.BaseProcess
    answer: Connection
    started: float


def _forked(work: Sequence[_Work], jobs: int, timeout: float) -> Iterator[tuple[int, list[Outcome]]]:
    """Fork for each piece of work; at most ``jobs`` at a time."""
    context = multiprocessing.get_context("fork")
    waiting = list(range(len(work)))[::-1]
    running: list[_Running] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                place = waiting.pop()
                receive, send = context.Pipe(duplex=False)
                process = context.Process(target=_tell, args=(send, work[place]), daemon=True)
                process.start()
                send.close()
                running.append(_Running(place, process, receive, time.monotonic()))
            wait([each.answer for each in running], timeout=1)
            for each in list(running):
                seconds = time.monotonic() - each.started
                if each.answer.poll():
                    outcomes = _answer(each, work[each.place], seconds)
                elif seconds > timeout:
                    outcomes = _failed(work[each.place], f"no result after {timeout:g} s", seconds)
                else:
                    continue
                running.remove(each)
                _end(each)
                yield each.place, outcomes
    finally:
        for each in running:
            _end(each)


def _answer(each: _Running, work: _Work, seconds: float) -> list[Outcome]:
    try:
        answers: list[tuple[str, str, float]] = each.answer.recv()
    except EOFError:
        each.process.join(5)
        return _failed(work, f"the process ended with status {each.process.exitcode}", seconds)
    return [Outcome(work.fault, check, *answer) for check, answer in zip(work.checks, answers, strict=True)]


def _failed(work: _Work, why: str, seconds: float) -> list[Outcome]:
    return [Outcome(work.fault, check, FAILED, why, seconds) for check in work.checks]


def _end(each: _Running) -> None:
    each.process.kill()
    each.process.join()
    each.answer.close()


def _tell(send: Connection, work: _Work) -> None:
    """Be the forked process: what the checks print is nobody's business."""
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(quiet, stream)
    with suppress(BrokenPipeError):
        send.send([_timed(work.fault, check) for check in work.checks])
    os._exit(0)


def _timed(fault: AuditFault | None, check: str) -> tuple[str, str, float]:
    started = time.monotonic()
    result, evidence = _judged(fault, check)
    return result, evidence, time.monotonic() - started


def _judged(fault: AuditFault | None, check: str) -> tuple[str, str]:
    if reason := CHECKS[check].missing():
        return NOT_RUN, reason
    try:
        with fault.plant() if fault else nullcontext():
            evidence = CHECKS[check].run()
    except FaultNotPlanted as problem:
        return NOT_PLANTED, str(problem)
    except Exception as error:
        return FAILED, f"{type(error).__name__}: {error}"
    if fault is None:
        return (ALARM, evidence) if evidence else (QUIET, "")
    return (CAUGHT, evidence) if evidence else (MISSED, "the check noticed nothing")
