"""The audit: every fault is caught by its check, and what is not caught is said."""

import json
import os
import time
from pathlib import Path

import pytest

from bench.audit import CHECKS, FAULTS, SUBJECTS, AuditFault, audit
from bench.audit.checks.check import Check
from bench.audit.planting import around, other_text
from bench.cli import main
from bench.flows.flow import TARGETS
from bench.reports.audit import catalogue_document, kill_table, summary, to_json
from kernels.faults import FaultNotPlanted
from tests.bench import audit_subject

DOCUMENT = Path(__file__).parents[2] / "docs" / "audit.md"
# Those whose check takes no whole run: all of them are planted in `make audit`.
QUICK = [
    fault
    for fault in FAULTS.values()
    if not CHECKS[fault.check].group and fault.check not in ("exit-status", "report", "accuracy")
]


def test_every_quick_fault_is_caught_and_every_quick_check_is_quiet() -> None:
    outcomes = audit(QUICK, jobs=2)
    assert [(each.check, each.result, each.evidence) for each in outcomes if not each.good] == []
    assert sum(each.fault is not None for each in outcomes) == len(QUICK) >= 40
    assert all(each.evidence for each in outcomes if each.fault)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_fault_is_caught(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["audit", "--json", str(tmp_path / "audit.json")]) == 0, capsys.readouterr().out
    outcomes = json.loads((tmp_path / "audit.json").read_text())["outcomes"]
    assert {each["fault"] for each in outcomes} == {None, *FAULTS}


def test_there_are_faults_of_every_subject_and_every_target() -> None:
    assert len(FAULTS) >= 60
    assert {fault.subject for fault in FAULTS.values()} == set(SUBJECTS)
    for target in TARGETS:
        assert sum(fault.check.endswith(f"/{target}") for fault in FAULTS.values()) >= 5


def test_every_check_has_a_fault() -> None:
    # Of a whole run the checks are the same for all targets.
    used = {fault.check.split("/")[0] for fault in FAULTS.values()}
    assert {name.split("/")[0] for name in CHECKS} == used


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_every_fault_has_a_place(fault: AuditFault) -> None:
    with fault.plant():
        pass


def test_the_document_has_the_table() -> None:
    table = catalogue_document(list(FAULTS.values()), CHECKS.values())
    assert DOCUMENT.read_text().endswith(table + "\n"), "write it again: bitexact audit --list"


@pytest.fixture
def subject(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks of a function that adds: one that looks, and ones that are of no use."""

    def asleep() -> None:
        time.sleep(60)

    for name, run in {
        "looks": lambda: None if audit_subject.total([1, 2, 3]) == 6 else "the total is not 6",
        "is-blind": lambda: None,
        "always-alarmed": lambda: "something",
        "raises": lambda: 1 // 0,
        "sleeps": asleep,
        "dies": lambda: os._exit(3),
    }.items():
        monkeypatch.setitem(CHECKS, name, Check(name, "", run))  # type: ignore[arg-type]
    missing = Check("has-no-simulator", "", lambda: None, missing=lambda: "apt-get install it")
    monkeypatch.setitem(CHECKS, "has-no-simulator", missing)  # type: ignore[index]


HARMFUL = other_text("tests.bench.audit_subject:total", "total += value", "total -= value")


@pytest.mark.usefixtures("subject")
@pytest.mark.parametrize(
    ("check", "result", "alone", "evidence"),
    [
        ("looks", "caught", "quiet", "the total is not 6"),
        ("is-blind", "missed", "quiet", "noticed nothing"),
        ("always-alarmed", "caught", "false alarm", "something"),
        ("raises", "failed", "failed", "ZeroDivisionError"),
        ("sleeps", "failed", "failed", "no result after 2 s"),
        ("dies", "failed", "failed", "ended with status 3"),
        ("has-no-simulator", "not run", "not run", "apt-get install it"),
    ],
)
def test_what_becomes_of_a_fault(check: str, result: str, alone: str, evidence: str) -> None:
    fault = AuditFault("takes-away", "model", "subtracts", check, HARMFUL)
    without, planted = audit([fault], timeout=2)
    assert (without.fault, without.result) == (None, alone)
    assert (planted.fault, planted.result) == (fault, result)
    assert evidence in planted.evidence
    assert audit_subject.total([1, 2]) == 3
    text = summary([without, planted])
    assert ("takes-away" in text) == (result != "caught")
    assert "takes-away" in kill_table([without, planted])
    assert [each["fault"] for each in to_json([without, planted])] == [None, "takes-away"]


@pytest.mark.usefixtures("subject")
def test_a_fault_whose_place_is_gone_is_not_planted() -> None:
    gone = other_text("tests.bench.audit_subject:total", "total *= value", "")
    _, outcome = audit([AuditFault("gone", "model", "", "looks", gone)])
    assert outcome.result == "not planted"
    assert "stands 0 times in tests.bench.audit_subject:total" in outcome.evidence


NOT_PLANTED = {
    "no-module": (lambda: other_text("bench.nothing:x", "a", "b"), "there is no bench.nothing:x"),
    "no-function": (lambda: other_text("bench.layout:nothing", "a", "b"), "there is no bench.layout:nothing"),
    "twice": (lambda: other_text("tests.bench.audit_subject:total", "total", "x"), "stands 4 times"),
    "no-difference": (
        lambda: other_text("tests.bench.audit_subject:total", "total += value", "total += (value)"),
        "makes no difference",
    ),
    "no-place": (
        lambda: around("bench.layout:nothing", lambda call: call),
        "there is no bench.layout:nothing",
    ),
}


@pytest.mark.parametrize("case", NOT_PLANTED)
def test_a_place_that_is_not_there_is_an_error(case: str) -> None:
    plant, message = NOT_PLANTED[case]
    with pytest.raises(FaultNotPlanted, match=message), plant()():
        pass


def test_a_fault_is_gone_when_its_context_is_left() -> None:
    with HARMFUL():
        assert audit_subject.total([1, 2]) == -3
    assert audit_subject.total([1, 2]) == 3
    with around("tests.bench.audit_subject:total", lambda call: lambda values: call(values) + 1)():
        assert audit_subject.total([1, 2]) == 4
    assert audit_subject.total([1, 2]) == 3


def test_an_unknown_subject_names_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="subject 'tests' is none of pass, kernel"):
        AuditFault("x", "tests", "", "looks", HARMFUL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["audit", "nibbles"], "unknown fault 'nibbles': a name of bitexact audit --list, or one of pass"),
        (["audit", "model", "--json", "/nowhere/x.json"], "there is no folder /nowhere"),
        (["audit", "--jobs", "0"], "'0' is not a whole number of jobs above 0"),
    ],
    ids=["fault", "folder", "jobs"],
)
def test_usage_errors(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(arguments)
    except SystemExit as end:
        status = int(end.code or 0)
    assert status == 2
    assert message in capsys.readouterr().err


def test_the_command_plants_what_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "vdmpy-wraps", "vrmpy-saturates"]) == 0
    printed = capsys.readouterr().out
    assert "2 of 2 faults caught" in printed
    assert "2 of 2 checks quiet" in printed
