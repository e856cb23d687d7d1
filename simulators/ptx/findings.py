"""Collects what a run finds: one finding for each kind and line, with its first thread and how often."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulators.ptx.syntax import Instruction
from simulators.report import Finding

if TYPE_CHECKING:
    from simulators.ptx.launch import Geometry


@dataclass
class _Note:
    severity: str
    where: str
    message: str
    count: int


class Findings:
    """The findings of one launch. The machine keeps `instruction`, `first_block` and `shape` up to date."""

    def __init__(
        self, check: bool, kernel: str, geometry: "Geometry", instructions: list[Instruction]
    ) -> None:
        self.check = check
        self.kernel = kernel
        self.geometry = geometry
        self.instructions = instructions
        self.instruction: Instruction | None = None
        self.first_block = 0
        self.shape = (1, 1, 1)
        self._notes: dict[tuple, _Note] = {}

    def place(self) -> str:
        """Name the kernel, line and instruction that run now."""
        if self.instruction is None:
            return self.kernel
        return f"{self.kernel}, PTX line {self.instruction.line} ({self.instruction.name})"

    def line_of(self, pc: int) -> tuple[int, str]:
        """Name an instruction: its line, and its line and name as text."""
        instruction = self.instructions[pc]
        return instruction.line, f"PTX line {instruction.line} ({instruction.name})"

    def add(
        self, kind: str, message: str, *, pc: int, key: tuple = (), count: int = 1, severity: str = "error"
    ) -> None:
        """Record something that instruction `pc` did; what has the same kind and key is counted."""
        known = self._notes.get((kind, severity, pc, *key))
        if known is not None:
            known.count += count
        else:
            where = f"{self.kernel}, {self.line_of(pc)[1]}"
            self._notes[kind, severity, pc, *key] = _Note(severity, where, message, count)

    def note(self, kind: str, wrong: np.ndarray, address: np.ndarray | None, size: int, space: str) -> None:
        """Record that `wrong` (blocks, warps, lanes; or blocks, warps, and a tile's axes) did something."""
        line = self.instruction.line if self.instruction else 0
        if wrong.ndim == 3:
            # The rows of ldmatrix come from the first lanes alone.
            lanes = wrong.shape[2] if wrong.shape[2] > 1 else self.shape[2]
            wrong = np.broadcast_to(wrong, (*self.shape[:2], lanes))
        count = int(np.count_nonzero(wrong))
        known = self._notes.get((kind, line))
        if known is not None:
            known.count += count
            return
        at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        lane = int(at[2]) if wrong.ndim == 3 else 0
        block, thread = self.geometry.locate(self.first_block + int(at[0]), int(at[1]), lane)
        what = ""
        if address is not None:
            what = f"{size} bytes at {space} address {int(np.broadcast_to(address, wrong.shape)[at]):#x}, "
        self._notes[kind, line] = _Note("error", self.place(), f"{what}block {block}, thread {thread}", count)

    def collected(self) -> list[Finding]:
        """All findings, in the order they were first made."""
        found = []
        for (kind, *_), note in self._notes.items():
            times = "once" if note.count == 1 else f"{note.count} times"
            found.append(Finding(kind, note.severity, note.where, f"{note.message} (first of {times})"))
        return found
