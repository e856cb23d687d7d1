"""Where failing cases are kept unless a place is named."""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT = "bitexact-bundles"
VARIABLE = "BITEXACT_BUNDLES"


def default_folder() -> Path | None:
    """The folder that the environment names (none for "none"), or one in the working directory."""
    named = os.environ.get(VARIABLE) or DEFAULT
    return None if named == "none" else Path(named)
