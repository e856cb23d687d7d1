"""One test as a case: its id, its seeds and its target, whichever worker runs it and in which order."""

from __future__ import annotations

from hashlib import blake2b

import pytest

from bench.flows.names import TARGETS
from bench.pytest_plugin.options import DEFAULT_TARGET, Settings

TARGET_FIXTURE = "bitexact_target"
TARGET_MARKER = "bitexact_targets"


def case_of(item: pytest.Item) -> str:
    """The id of a test, as ``pytest --collect-only -q`` shows it.

    pytest-xdist appends the name of a group to it (``--dist loadgroup``): that is no part of the case.
    """
    return f"{item.parent.nodeid}::{item.name}" if item.parent else item.name


def seed_of(seed: int, case: str, number: int = 0) -> int:
    """The seed of the so-manieth call of a case: from the session's seed and the case's id alone."""
    digest = blake2b(f"{seed}\n{case}\n{number}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")


def marked_targets(item: pytest.Item | pytest.Metafunc) -> list[str]:
    """The targets that a test is marked with; UsageError for one that is none."""
    definition = item.definition if isinstance(item, pytest.Metafunc) else item
    marked = [name for marker in definition.iter_markers(TARGET_MARKER) for name in marker.args]
    for name in marked:
        if name not in TARGETS:
            where = definition.nodeid
            raise pytest.UsageError(
                f"{where}: marker {TARGET_MARKER}: unknown target {name!r}: one of {', '.join(TARGETS)}"
            )
    return marked


def default_target(item: pytest.Item, settings: Settings) -> str | list[str]:
    """The target of a test that names none in its calls; several where it is not clear which."""
    parameters = getattr(item, "callspec", None)
    if parameters and TARGET_FIXTURE in parameters.params:
        return str(parameters.params[TARGET_FIXTURE])
    candidates = marked_targets(item) or list(settings.targets) or [DEFAULT_TARGET]
    return candidates[0] if len(candidates) == 1 else candidates


def parametrize_target(metafunc: pytest.Metafunc, settings: Settings) -> None:
    """One test for each target: those of the session that the test is marked with, or all of either."""
    if TARGET_FIXTURE not in metafunc.fixturenames:
        return
    possible = marked_targets(metafunc) or list(TARGETS)
    chosen = [target for target in possible if not settings.targets or target in settings.targets]
    skipped = pytest.mark.skip(reason=f"--bitexact-target is {', '.join(settings.targets)}")
    parameters = [pytest.param(target, marks=skipped) for target in possible]
    metafunc.parametrize(TARGET_FIXTURE, chosen or parameters, indirect=True)
