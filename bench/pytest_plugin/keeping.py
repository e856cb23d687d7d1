"""What a call leaves on disk: the artefact that was executed, and a bundle of a case that failed."""

from __future__ import annotations

import os
import re
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from bench.pytest_plugin.options import Settings

if TYPE_CHECKING:
    from bench.artifact import Artifact
    from bench.compare.verdict import Verdict
    from bench.trace import Trace

NOWHERE = "none"
_LONGEST_NAME = 100


def keep_artifact(folder: Path, case: str, number: int, artifact: Artifact) -> Path:
    """Write the machine's code of the so-manieth call of a case, or the host's where that is all there is.

    The files lie in a folder of their own, named after the case, which is returned.
    """
    from bench.artifact import HOST_LIBRARY

    name = re.sub(r"[^\w.+-]+", "-", case).strip("-")[:_LONGEST_NAME]
    own = folder / f"{name}-{blake2b(case.encode(), digest_size=3).hexdigest()}-{number}"
    own.mkdir(parents=True, exist_ok=True)
    for file, content in (artifact.machine or {HOST_LIBRARY: artifact.host_library}).items():
        (own / file).write_bytes(content)
    return own


def keep_bundle(
    folder: Path | None, case: str, verdict: Verdict, trace: Trace, seed: int | None
) -> str | None:
    """Write a bundle of a failure (:mod:`bench.bundles`) and name it in the verdict.

    Returns why it could not be written: the failure itself is to be reported then.
    """
    from bench import bundles

    try:
        bundles.keep(folder, verdict, trace, seed=seed, notes={"test": case})
    except (OSError, ValueError) as error:
        return f"the failing case could not be kept in {folder}: {error}"
    return None


def bundle_folder(settings: Settings, temporary: Path) -> Path | None:
    """Where bundles go: what the option or the environment says, or a place that pytest clears."""
    from bench.bundle_folder import VARIABLE

    named = settings.bundles or os.environ.get(VARIABLE)
    if named == NOWHERE:
        return None
    return settings.here / named if named else temporary / "bitexact-bundles"
