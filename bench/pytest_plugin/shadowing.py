"""Whether Python finds bitexact's own packages, or others of the same names that a repository has."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("kernels", "simulators")
_ROOT = Path(__file__).parents[2]


def hidden_package() -> str | None:
    """What hides a package of bitexact, and what helps; None where nothing does."""
    for name in PACKAGES:
        spec = find_spec(name)
        if spec is None or spec.origin is None or Path(spec.origin).parents[1] != _ROOT:
            found = spec.origin if spec and spec.origin else "a folder without __init__.py"
            return (
                f"'import {name}' finds {found} instead of the package that bitexact brings: rename yours, "
                "or keep its folder off sys.path (pytest --import-mode=importlib; not python -m pytest)"
            )
    return None


def hidden_in(error: str) -> str | None:
    """What :func:`hidden_package` says, if the text of an error is one of a package that is hidden."""
    if any(f"No module named '{name}." in error or f"from '{name}" in error for name in PACKAGES):
        return hidden_package()
    return None
