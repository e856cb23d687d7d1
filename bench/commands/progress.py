"""Progress on one line of a terminal: of steps, or of what takes minutes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.status import Status

SECONDS_BETWEEN_LINES = 10.0


class _StatusLine:
    """One line of standard error while the context is open; ``status`` is None where that is no terminal."""

    def __init__(self) -> None:
        self.status: Status | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            # Only here: every command imports this, to parse its options.
            from rich.console import Console

            self.status = Console(stderr=True).status("starting")
            self.status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.status:
            self.status.stop()


class Progress(_StatusLine):
    """What is being done, on one line of a terminal; nothing at all where standard error is none."""

    def __init__(self, *, total: int) -> None:
        super().__init__()
        self._total = total
        self._count = 0

    def of(self, target: str) -> Callable[[str], None]:
        """Begin with the next target; what is returned shows a step of it."""
        self._count += 1
        where = f"[{self._count}/{self._total}] {target}"

        def show(step: str) -> None:
            if self.status:
                self.status.update(f"{where}: {step}")

        return show


class LongProgress(_StatusLine):
    """Shows how far something has come; called with a text. Without a terminal, a line now and then."""

    def __init__(self, *, between: float = SECONDS_BETWEEN_LINES) -> None:
        super().__init__()
        self._between = between
        self._next = time.monotonic() + between

    def __call__(self, text: str) -> None:
        """Show a text; where there is no terminal, only if the last line was some seconds ago."""
        if self.status:
            self.status.update(text)
        elif time.monotonic() >= self._next:
            print(text, file=sys.stderr, flush=True)
            self._next = time.monotonic() + self._between
