"""Progress of what takes minutes: one line on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.status import Status

SECONDS_BETWEEN_LINES = 10.0


class LongProgress:
    """Shows how far something has come, on standard error; a context manager, called with a text."""

    def __init__(self, *, between: float = SECONDS_BETWEEN_LINES) -> None:
        self._between = between
        self._status: Status | None = None
        self._next = time.monotonic() + between

    def __call__(self, text: str) -> None:
        """Show a text; where there is no terminal, only if the last line was some seconds ago."""
        if self._status:
            self._status.update(text)
        elif time.monotonic() >= self._next:
            print(text, file=sys.stderr, flush=True)
            self._next = time.monotonic() + self._between

    def __enter__(self) -> LongProgress:
        if sys.stderr.isatty():
            self._status = Console(stderr=True).status("starting")
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._status:
            self._status.stop()
