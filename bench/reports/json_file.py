"""The JSON of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bench.compare.verdict import Verdict
from bench.versions import versions


def write(path: Path, verdicts: Sequence[Verdict], *, seed: int | None = None) -> None:
    """Write one object: ``versions``, ``seed`` (null where nothing was drawn at random) and ``verdicts``."""
    content = {
        "versions": versions(),
        "seed": seed,
        "verdicts": [verdict.to_json() for verdict in verdicts],
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
