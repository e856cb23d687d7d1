"""The hooks that pytest calls (entry point ``pytest11``), and the fixtures."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from bench.pytest_plugin import (
    case,
    keeping,
    markers,
    options,
    shadowing,
    summary,
    waivers,
    waiving,
)
from bench.pytest_plugin.fixture import Bitexact

SETTINGS = pytest.StashKey[options.Settings]()
WAIVERS = pytest.StashKey[dict[str, waivers.Waiver]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Read the options and the waivers, and declare the markers."""
    markers.declare(config)
    settings = config.stash[SETTINGS] = options.Settings.of(config)
    if settings.replay:
        from bench.pytest_plugin.replaying import Replay

        config.pluginmanager.register(Replay(config, settings))
    try:
        config.stash[WAIVERS] = waivers.read(settings.waivers) if settings.waivers else {}
    except waivers.WaiverError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist what its controller settled."""
    node.workerinput.update(node.config.stash[SETTINGS].for_worker())


def pytest_report_header(config: pytest.Config) -> str:
    """Say what a session can be repeated with."""
    return config.stash[SETTINGS].header()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that take ``bitexact_target`` once for each target."""
    case.parametrize_target(metafunc, metafunc.config.stash[SETTINGS])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what the markers say, and name the waivers that are of no test."""
    settings = config.stash[SETTINGS]
    markers.skip_by_marker(items, settings)
    if settings.waivers and not settings.targets:
        cases = map(case.case_of, items)
        for waiver in waiving.without_test(config.stash[WAIVERS].values(), cases, config.args):
            message = f"{settings.waivers}: there is no test {waiver.case}"
            config.issue_config_time_warning(waiving.BitexactWarning(message), stacklevel=2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Hold the outcome of a case against its waiver."""
    report = yield
    waiver = item.config.stash[WAIVERS].get(case.case_of(item))
    file = item.config.stash[SETTINGS].waivers
    if waiver and file:
        waiving.waive(item, call, report, waiver, file)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the verdicts, and say what may have kept tests from being imported."""
    reports = [
        report
        for listed in terminalreporter.stats.values()
        for report in listed
        if isinstance(report, pytest.TestReport) and report.when == "call"
    ]
    lines = summary.summary(reports)
    errors = (report.longreprtext for report in terminalreporter.stats.get("error", ()))
    lines += dict.fromkeys(filter(None, map(shadowing.hidden_in, errors)))
    if lines:
        terminalreporter.section("bitexact")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture
def bitexact(request: pytest.FixtureRequest) -> Bitexact:
    """Verify kernels and graphs bit for bit: ``bitexact.verify(...)``, ``bitexact.run(...)``."""
    if hidden := shadowing.hidden_package():
        pytest.fail(f"bitexact: {hidden}", pytrace=False)
    settings = request.config.stash[SETTINGS]
    waiver = request.config.stash[WAIVERS].get(case.case_of(request.node))

    def bundles() -> Path | None:
        temporary = request.getfixturevalue("tmp_path_factory").getbasetemp()
        return keeping.bundle_folder(settings, temporary)

    return Bitexact(request.node, settings, waiver=waiver, bundles=bundles)


@pytest.fixture
def bitexact_target(request: pytest.FixtureRequest) -> str:
    """Each target of the session in turn; ``bitexact`` uses it in calls that name none."""
    target: str = request.param
    return target
