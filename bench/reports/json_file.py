"""The JSON of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bench.compare.verdict import Verdict
from bench.versions import versions
from bench.whole_file import write_whole

FORMAT = 1


def write(path: Path, verdicts: Sequence[Verdict], *, seed: int | None = None, complete: bool = True) -> None:
    """Write one object: ``versions``, ``seed`` (null where nothing was drawn at random) and ``verdicts``.

    ``complete`` is false while a run goes on, and stays so where that is ended in the middle. Nobody sees
    half a file. Raises OSError.
    """
    content = {
        "format": FORMAT,
        "complete": complete,
        "versions": versions(),
        "seed": seed,
        "verdicts": [verdict.to_json() for verdict in verdicts],
    }
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
