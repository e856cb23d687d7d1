"""Markers: what they mean, and which tests they skip."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bench.pytest_plugin.case import TARGET_MARKER, marked_targets
from bench.pytest_plugin.options import Settings

DEVICE_MARKER = "bitexact_devices"
REQUIRE_MARKER = "bitexact_require_device"
SLOW_MARKER = "bitexact_slow"
DEVICE_KINDS = ("host", "sim", "cuda", "rpc", "tracker")

MARKERS = {
    f"{TARGET_MARKER}(*targets)": "the test is of these targets; one that takes bitexact_target runs once "
    "for each",
    f"{DEVICE_MARKER}(*kinds)": f"run only on a --bitexact-device of these: {', '.join(DEVICE_KINDS)}",
    REQUIRE_MARKER: "a device that is missing fails the test instead of skipping it",
    SLOW_MARKER: "run only with --bitexact-slow",
}


def declare(config: pytest.Config) -> None:
    """Make the markers known, for ``pytest --markers`` and ``--strict-markers``."""
    for marker, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{marker}: bitexact: {meaning}")


def skip_by_marker(items: Sequence[pytest.Item], settings: Settings) -> None:
    """Mark the tests that this session does not run, with the reason."""
    for item in items:
        if reason := why_skipped(item, settings):
            item.add_marker(pytest.mark.skip(reason=reason))


def why_skipped(item: pytest.Item, settings: Settings) -> str | None:
    """Why a test's markers keep it from running; UsageError for a kind of device that is none."""
    if item.get_closest_marker(SLOW_MARKER) and not settings.slow:
        return "slow: --bitexact-slow runs it"
    kinds = [kind for marker in item.iter_markers(DEVICE_MARKER) for kind in marker.args]
    for kind in kinds:
        if kind not in DEVICE_KINDS:
            raise pytest.UsageError(
                f"{item.nodeid}: marker {DEVICE_MARKER}: unknown kind of device {kind!r}: "
                f"one of {', '.join(DEVICE_KINDS)}"
            )
    if kinds and settings.device.partition("://")[0] not in kinds:
        return f"needs a device {' or '.join(kinds)}, and --bitexact-device is {settings.device}"
    targets = marked_targets(item)
    if targets and settings.targets and not set(targets) & set(settings.targets):
        return f"is of {', '.join(targets)}, and --bitexact-target is {', '.join(settings.targets)}"
    return None
