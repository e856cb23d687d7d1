"""Every failure that docs/robustness.md lists has a test, and every subject has its rows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "robustness.md"
ROW = re.compile(r"^\| (?P<failure>[^|]+) \| (?P<seen>[^|]+) \| `(?P<path>[^`]+)::(?P<test>\w+)` \|$")
HEADER = ("| what goes wrong |", "|---")


def rows() -> list[str]:
    lines = DOCUMENT.read_text().splitlines()
    return [line for line in lines if line.startswith("|") and not line.startswith(HEADER)]


def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.split("|")[1].strip().replace(" ", "-"))
def test_a_failure_has_its_test(row: str) -> None:
    match = ROW.match(row)
    assert match, row
    assert match["test"].startswith("test_")
    assert match["test"] in functions_of(ROOT / match["path"]), f"{match['path']} has no {match['test']}"


def test_every_test_of_robustness_is_in_the_table() -> None:
    """A failure that is tested and not written down would be found by nobody."""
    written = DOCUMENT.read_text()
    path = Path("tests/bench/test_robustness.py")
    names = {name for name in functions_of(ROOT / path) if name.startswith("test_")}
    assert {name for name in names if f"`{path}::{name}`" not in written} == {
        "test_a_file_keeps_its_mode_and_a_new_one_has_that_of_any"
    }
