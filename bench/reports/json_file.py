"""The JSON of a run, written and read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.compare.verdict import Verdict
from bench.reports.typed import typed
from bench.versions import versions
from bench.whole_file import write_whole

FORMAT = 1


@dataclass(frozen=True)
class Run:
    """What one file says: versions (None: not installed), the seed if anything was drawn, and verdicts.

    ``complete`` is false where the run was ended before it had all of them.
    """

    versions: dict[str, str | None]
    seed: int | None
    verdicts: list[Verdict]
    complete: bool = True


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


def read(path: Path) -> Run:
    """Read what :func:`write` wrote. ValueError names the file, and the key that is not as it should be."""
    content = read_object(path)
    if "verdicts" not in content:
        raise ValueError(f"{path}: no JSON of a run: it has no key 'verdicts' (bitexact run … --json FILE)")
    if content.get("format", FORMAT) != FORMAT:  # the first files had none
        raise ValueError(f"{path}: format {content['format']} is not supported: {FORMAT} is")
    try:
        return typed(Run, content, "$")
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).removeprefix('$.')}") from None


def read_object(path: Path) -> dict[str, Any]:
    """The object in a file of JSON. ValueError names the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # of the text's encoding or of its JSON
        raise ValueError(f"{path}: no JSON: {error}") from None
    return content if isinstance(content, dict) else {}
