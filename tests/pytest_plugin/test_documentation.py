"""The examples of docs/pytest.md are what a newcomer types first: they run as they stand."""

import re

import pytest

from tests.pytest_plugin.repository import ROOT, run_here

DOCUMENT = (ROOT / "docs" / "pytest.md").read_text()
FILES = dict(re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", DOCUMENT, flags=re.DOTALL))


@pytest.fixture
def repository(pytester: pytest.Pytester) -> pytest.Pytester:
    for name, content in FILES.items():
        if name.endswith(".py"):
            (pytester.path / name).write_text(content)
    return pytester


def test_the_document_has_examples() -> None:
    assert set(FILES) == {"test_my_kernel.py", "test_networks.py", "test_ids.py", "bitexact-waivers.toml"}


def test_the_examples_pass(repository: pytest.Pytester) -> None:
    result = run_here(repository, "-v", "--bitexact-target", "vta,tensorcore", "--strict-markers", "-rs")
    result.assert_outcomes(passed=4, skipped=3)
    result.stdout.fnmatch_lines(
        [
            "bitexact: seed 0, device sim*",
            "test_ids.py::test_ids PASSED*",
            "test_my_kernel.py::test_my_schedule_is_exact?tensorcore-dense-i8i8-64x128-64x128? PASSED*",
            "test_my_kernel.py::test_my_schedule_is_exact?tensorcore-dense-i8i8-8x64-64x64? PASSED*",
            "test_networks.py::test_digits?vta? PASSED*",
            "verdicts: 3 exact",
        ]
    )


def test_the_waiver_is_of_one_of_the_tests(repository: pytest.Pytester) -> None:
    """It names a case that passes here, which is the failure that the document announces."""
    (repository.path / "bitexact-waivers.toml").write_text(FILES["bitexact-waivers.toml"])
    result = run_here(repository, "test_my_kernel.py", "-k", "8x64-64x64")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["passes, and a waiver in *expects it to fail in phase compare*"])


def test_every_option_and_marker_is_described(pytester: pytest.Pytester) -> None:
    shown = run_here(pytester, "--help").stdout.str() + run_here(pytester, "--markers").stdout.str()
    names = set(re.findall(r"--bitexact-[a-z-]+|(?<=pytest.mark.)bitexact_\w+", shown))
    assert len(names) >= 11
    assert {name for name in names if f"`{name}" not in DOCUMENT} == set()
