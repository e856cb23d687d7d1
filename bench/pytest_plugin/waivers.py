"""Known failures, in one TOML file: a case fails in the phase that its waiver names, and nowhere else.

    [[waiver]]
    case = "tests/test_kernels.py::test_conv[vta-conv2d-i8i8-1x16x8x8-16x16x3x3-s1p1]"
    phase = "compare"
    reason = "issue 12: the last row is shifted once too often"

A waiver is strict: a case that it names and that does not fail is a failure, and so is one that fails in
another phase. docs/pytest.md says how the file is rewritten from the log of a run.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.pytest_plugin.phases import PHASES

TABLE = "waiver"
KEYS = ("case", "phase", "reason")


class WaiverError(ValueError):
    """A file of waivers cannot be used; the message names the file, the entry and what would be valid."""


@dataclass(frozen=True)
class Waiver:
    """``case``, the id of a test, is known to fail in ``phase``."""

    case: str
    phase: str
    reason: str


def read(path: Path) -> dict[str, Waiver]:
    """The waivers of a file by their cases. Raises WaiverError for a file that is not one of waivers."""
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise WaiverError(f"{path}: {error}") from None
    if unknown := sorted(set(content) - {TABLE}):
        raise WaiverError(f"{path}: unknown {unknown[0]!r}: it holds tables [[{TABLE}]]")
    entries = content.get(TABLE, [])
    if not isinstance(entries, list):
        raise WaiverError(f"{path}: {TABLE!r} is no array of tables: write [[{TABLE}]]")
    waivers: dict[str, Waiver] = {}
    for number, entry in enumerate(entries, 1):
        waiver = _waiver(f"{path}: waiver {number}", entry)
        if waiver.case in waivers:
            raise WaiverError(f"{path}: waiver {number}: there is another of {waiver.case}")
        waivers[waiver.case] = waiver
    return waivers


def _waiver(where: str, entry: Any) -> Waiver:
    if not isinstance(entry, dict) or set(entry) != set(KEYS):
        has = ", ".join(entry) if isinstance(entry, dict) else repr(entry)
        raise WaiverError(f"{where} has {has or 'nothing'}; it needs {', '.join(KEYS)}, and no more")
    for key, value in entry.items():
        if not isinstance(value, str) or not value.strip():
            raise WaiverError(f"{where}: its {key} is {value!r}, not a text")
    if entry["phase"] not in PHASES:
        raise WaiverError(f"{where}: unknown phase {entry['phase']!r}: one of {', '.join(PHASES)}")
    return Waiver(**entry)
