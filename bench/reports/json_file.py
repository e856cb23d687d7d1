"""The JSON of a run, written and read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.compare.verdict import Verdict
from bench.reports.typed import typed
from bench.versions import versions


@dataclass(frozen=True)
class Run:
    """What one file says: versions (None: not installed), the seed if anything was drawn, and verdicts."""

    versions: dict[str, str | None]
    seed: int | None
    verdicts: list[Verdict]


def write(path: Path, verdicts: Sequence[Verdict], *, seed: int | None = None) -> None:
    """Write one object: ``versions``, ``seed`` (null where nothing was drawn at random) and ``verdicts``."""
    content = {
        "versions": versions(),
        "seed": seed,
        "verdicts": [verdict.to_json() for verdict in verdicts],
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read(path: Path) -> Run:
    """Read what :func:`write` wrote. ValueError names the file, and the key that is not as it should be."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # of the text's encoding or of its JSON
        raise ValueError(f"{path}: no JSON: {error}") from None
    if not isinstance(content, dict) or "verdicts" not in content:
        raise ValueError(f"{path}: no JSON of a run: it has no key 'verdicts' (bitexact run … --json FILE)")
    try:
        return typed(Run, content, "$")
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).removeprefix('$.')}") from None
