"""Rewriting a file of waivers from what a run left in its JUnit XML; what people wrote in it stays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import tomlkit
from tomlkit.items import AoT, Comment, Item, Table, Whitespace

from bench.pytest_plugin import properties
from bench.pytest_plugin.properties import RecordedCase
from bench.pytest_plugin.waivers import TABLE, WaiverError, read

HEADING = "Known failures by case and phase; docs/pytest.md of bitexact says how this file is used."


@dataclass(frozen=True)
class Change:
    """What becomes of one waiver: ``what`` is added, removed or changed, ``why`` the run's reason."""

    what: str
    case: str
    phase: str
    why: str

    def __str__(self) -> str:
        return f"{self.what:8} {self.case} ({self.phase}: {self.why})"


def cases_of_junit(path: Path) -> list[RecordedCase]:
    """The cases of bitexact in a JUnit XML file. WaiverError for a file that is none, or that has none."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise WaiverError(f"{path}: {error}") from None
    tests = list(root.iter("testcase"))
    if not tests:
        raise WaiverError(f"{path} holds no test: write one with pytest --junit-xml {path.name}")
    cases = [case for case in map(_recorded, tests) if case]
    if not cases:
        raise WaiverError(f"{path}: none of its {len(tests)} tests used the fixture bitexact")
    return cases


def _recorded(test: ElementTree.Element) -> RecordedCase | None:
    """What a test left; without its calls where it passed, whatever they were."""
    case = properties.recorded(
        (each.get("name", ""), each.get("value", "")) for each in test.iter("property")
    )
    skipped = test.find("skipped")
    expected = skipped is not None and skipped.get("type") == "pytest.xfail"
    if case and not expected and test.find("failure") is None and test.find("error") is None:
        case.calls.clear()
    return case


def rewrite(path: Path, cases: Iterable[RecordedCase]) -> list[Change]:
    """Bring a file of waivers up to a run, and say what changed; it is made where it is not there.

    A case that failed gets a waiver with the run's reason, or its waiver gets the new phase and keeps its
    reason. The waiver of a case that passed is removed, with the comment right above it. Waivers of cases
    that did not run, were skipped or failed in another way, all other comments and the order stay. Raises
    WaiverError for a file that is none of waivers.
    """
    known = read(path) if path.exists() else {}
    file = _File.parse(path.read_text() if path.exists() else f"# {HEADING}\n")
    changes: list[Change] = []
    for case in cases:
        failed = case.failed()
        waiver = known.get(case.case)
        if failed and waiver is None:
            reason = failed.get("reason", failed.get("verdict", "not exact"))
            file.add(case.case, failed["phase"], reason)
            changes.append(Change("added", case.case, failed["phase"], reason))
        elif failed and waiver and waiver.phase != failed["phase"]:
            file.entry(case.case).table["phase"] = failed["phase"]
            changes.append(Change("changed", case.case, failed["phase"], waiver.reason))
        elif waiver and case.waiver == properties.UNEXPECTED:
            file.remove(case.case)
            changes.append(Change("removed", case.case, waiver.phase, waiver.reason))
    if changes:
        path.write_text(file.text())
    return changes


@dataclass
class _Entry:
    """One table: the comments right above it, itself, and what stands between it and the next."""

    above: str
    table: Table
    below: str

    def text(self) -> str:
        """As it stands in the file."""
        trivia = self.table.trivia
        header = f"{trivia.indent}[[{TABLE}]]{trivia.comment_ws}{trivia.comment}{trivia.trail}"
        return self.above + header + self.table.as_string() + self.below


@dataclass
class _File:
    """The text of a file in pieces: what stands before the first table, and the tables."""

    preamble: str
    entries: list[_Entry]

    @staticmethod
    def parse(text: str) -> _File:
        """Take a valid file apart."""
        document = tomlkit.parse(text)
        preamble, above = _split([item for key, item in document.body if key is None])
        file = _File(preamble, [])
        tables = document.get(TABLE)
        for table in tables.body if isinstance(tables, AoT) else ():
            below, next_above = _split(_take_tail(table))
            file.entries.append(_Entry(above, table, below))
            above = next_above
        file._put_below(above)  # comments at the end are above nothing
        return file

    def text(self) -> str:
        """The whole file."""
        return self.preamble + "".join(entry.text() for entry in self.entries)

    def entry(self, case: str) -> _Entry:
        """The table of a case."""
        return next(entry for entry in self.entries if entry.table["case"] == case)

    def add(self, case: str, phase: str, reason: str) -> None:
        """Append a table, after a blank line."""
        if not self.text().endswith("\n\n"):
            self._put_below("\n" if self.text().endswith("\n") else "\n\n")
        table = tomlkit.table()
        table.update({"case": case, "phase": phase, "reason": reason})
        self.entries.append(_Entry("", table, ""))

    def remove(self, case: str) -> None:
        """Take out a table and the comments right above it; those below it, after a blank line, stay."""
        place = self.entries.index(self.entry(case))
        below = self.entries[place].below
        following = self.entries[place + 1 :]
        self.entries = self.entries[:place]
        if below.strip():
            self._put_below(below)
        self.entries += following

    def _put_below(self, text: str) -> None:
        if self.entries:
            self.entries[-1].below += text
        else:
            self.preamble += text


def _take_tail(table: Table) -> list[Item]:
    """Remove from a table what follows its values after a blank line, and return it."""
    body = table.value.body
    last = max(place for place, (key, _) in enumerate(body) if key is not None)
    blank = (place for place in range(last, len(body)) if isinstance(body[place][1], Whitespace))
    begin = next(blank, len(body))
    tail = [item for _, item in body[begin:]]
    del body[begin:]
    return tail


def _split(items: Sequence[Item]) -> tuple[str, str]:
    """What stands between two tables: what is apart, and the comments right above the second."""
    begin = len(items)
    while begin and isinstance(items[begin - 1], Comment):
        begin -= 1
    apart, above = ("".join(item.as_string() for item in part) for part in (items[:begin], items[begin:]))
    return apart, above
