"""``--bitexact-replay BUNDLE``: bundles instead of tests, each of them one item."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.pytest_plugin.fixture import Bitexact, NotExact
from bench.pytest_plugin.options import Settings

ITEM = "replay"


class Replay:
    """The hooks of a session that replays; registered only where one does."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        """Let the session collect its bundles, and nothing else."""
        self._settings = settings
        config.args = [str(bundle) for bundle in settings.replay]

    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """Take a directory that is one of the bundles for one."""
        if path not in self._settings.replay:
            return None
        directory: BundleDirectory = BundleDirectory.from_parent(parent, path=path)
        directory.settings = self._settings
        return directory


class BundleDirectory(pytest.Directory):
    """The directory of one bundle."""

    settings: Settings

    def collect(self) -> Iterator[ReplayItem]:
        """Give the one item."""
        item: ReplayItem = ReplayItem.from_parent(self, name=ITEM)
        item.settings = self.settings
        yield item


class ReplayItem(pytest.Item):
    """A bundle as a test: it passes if its case is exact now."""

    settings: Settings

    def runtest(self) -> None:
        """Replay."""
        Bitexact(self, self.settings, bundles=None).replay(self.path)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: str | None = None) -> str:
        """Say what was wrong; where in the plugin it was raised tells nobody anything."""
        from bench.bundles import BundleError

        if isinstance(excinfo.value, NotExact | BundleError):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, None, str]:
        """How the item is called in a report."""
        return self.path, None, f"replay of {self.path.name}"
