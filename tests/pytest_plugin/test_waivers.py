"""Waivers: a known failure in its phase is expected, all else fails; a run rewrites the file."""

from pathlib import Path

import pytest

from bench.cli import main
from bench.pytest_plugin.properties import RecordedCase
from bench.pytest_plugin.waiver_file import cases_of_junit, rewrite
from bench.pytest_plugin.waivers import Waiver, WaiverError, read
from tests.pytest_plugin.repository import run_here, vta_tests

BODY = vta_tests("""
def test_good(bitexact):
    bitexact.verify(KERNEL, REFERENCE, "vta")

def test_bad(bitexact):
    bitexact.verify(KERNEL, wrong, "vta")

def test_other(bitexact):
    assert 1 == 2, "of another kind"
""")


def waiver(case: str, phase: str = "compare", reason: str = "issue 12") -> str:
    return f'[[waiver]]\ncase = "{case}"\nphase = "{phase}"\nreason = "{reason}"\n'


@pytest.fixture
def kernels(pytester: pytest.Pytester) -> Path:
    pytester.makepyfile(test_kernels=BODY)
    return pytester.path / "bitexact-waivers.toml"


class TestOutcomes:
    def test_a_failure_in_its_phase_is_expected(self, kernels: Path, pytester: pytest.Pytester) -> None:
        kernels.write_text(waiver("test_kernels.py::test_bad"))
        result = run_here(pytester, "-k", "good or bad", "-rx", "--junit-xml", "log.xml")
        result.assert_outcomes(passed=1, xfailed=1)
        result.stdout.fnmatch_lines(["waivers: 1 kept", "XFAIL *::test_bad - waiver: issue 12"])
        assert '"bitexact.waiver" value="kept"' in (pytester.path / "log.xml").read_text()

    def test_an_unexpected_pass_is_a_failure(self, kernels: Path, pytester: pytest.Pytester) -> None:
        kernels.write_text(waiver("test_kernels.py::test_good"))
        result = run_here(pytester, "-k", "good")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            [
                "passes, and a waiver in *bitexact-waivers.toml expects it to fail in phase compare *",
                "Remove the waiver, by hand or with: *bitexact waivers --from LOG.xml bitexact-waivers.toml",
                "waivers: 1 unexpected pass",
            ]
        )

    def test_a_failure_in_another_phase_is_one(self, kernels: Path, pytester: pytest.Pytester) -> None:
        kernels.write_text(waiver("test_kernels.py::test_bad", "build"))
        result = run_here(pytester, "-k", "bad")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["E *in phase compare", "E *a waiver expects * phase build: *"])

    def test_a_failure_of_another_kind_is_one(self, kernels: Path, pytester: pytest.Pytester) -> None:
        kernels.write_text(waiver("test_kernels.py::test_other"))
        run_here(pytester, "-k", "other").assert_outcomes(failed=1)

    def test_a_skipped_case_says_nothing(self, kernels: Path, pytester: pytest.Pytester) -> None:
        kernels.write_text(waiver("test_kernels.py::test_good"))
        run_here(pytester, "-k", "good", "--bitexact-device", "host").assert_outcomes(skipped=1)

    def test_a_waiver_of_no_test_is_a_warning(self, kernels: Path, pytester: pytest.Pytester) -> None:
        kernels.write_text(waiver("test_kernels.py::test_gone") + waiver("elsewhere.py::test_it"))
        result = run_here(pytester, "-k", "good")
        result.assert_outcomes(passed=1, deselected=2)
        result.stdout.fnmatch_lines(["*BitexactWarning: *there is no test test_kernels.py::test_gone"])
        result.stdout.no_fnmatch_line("*there is no test elsewhere.py*")
        result = run_here(pytester, "test_kernels.py::test_good")
        result.assert_outcomes(passed=1)
        result.stdout.no_fnmatch_line("*BitexactWarning*")

    def test_another_file_can_be_named(self, kernels: Path, pytester: pytest.Pytester) -> None:
        (pytester.path / "mine.toml").write_text(waiver("test_kernels.py::test_bad"))
        result = run_here(pytester, "-k", "bad", "--bitexact-waivers", "mine.toml")
        result.assert_outcomes(xfailed=1)

    def test_a_malformed_file_is_a_usage_error(self, kernels: Path, pytester: pytest.Pytester) -> None:
        kernels.write_text(waiver("test_kernels.py::test_bad", "sometimes"))
        result = run_here(pytester)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*bitexact-waivers.toml: waiver 1: unknown phase 'sometimes': one of *"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[waiver", "waivers.toml: Expected"),
        ("[[case]]\n", r"unknown 'case': it holds tables \[\[waiver\]\]"),
        ("[waiver]\n", r"'waiver' is no array of tables: write \[\[waiver\]\]"),
        ("[[waiver]]\n", "waiver 1 has nothing; it needs case, phase, reason, and no more"),
        (waiver("a") + "when = 3\n", "waiver 1 has case, phase, reason, when; it needs"),
        (waiver("a", reason=" "), "waiver 1: its reason is ' ', not a text"),
        (waiver("a", phase="link"), "unknown phase 'link': one of transform, build, run, compare"),
        (waiver("a") + waiver("a"), "waiver 2: there is another of a"),
        ("waiver = [3]\n", "waiver 1 has 3; it needs"),
    ],
    ids=["toml", "table", "one-table", "empty", "more", "no-reason", "phase", "twice", "number"],
)
def test_a_malformed_entry_is_named(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "waivers.toml"
    file.write_text(text)
    with pytest.raises(WaiverError, match=message):
        read(file)


def failed(case: str, phase: str = "compare", reason: str = "differs") -> RecordedCase:
    return RecordedCase(case, calls={1: {"verdict": "mismatch", "phase": phase, "reason": reason}})


FILE = """\
# Known failures.

# about a
[[waiver]]
case = "a"  # the first
phase = "run"
reason = "issue 1"
# still a

# a remark on its own

# about b
# in two lines
[[waiver]]  # b
case = "b"
phase = "run"
reason = "issue 2"

# about c
[[waiver]]
case = "c"
reason = "issue 3"
phase = "run"
# the end
"""

WITHOUT_B = FILE.replace(
    """\
# about b
# in two lines
[[waiver]]  # b
case = "b"
phase = "run"
reason = "issue 2"

""",
    "",
)

REWRITINGS = {
    "nothing": ([RecordedCase("a"), failed("b", "run"), RecordedCase("new")], FILE),
    "new": (
        [failed("n", reason='a "b"')],
        FILE + '\n[[waiver]]\ncase = "n"\nphase = "compare"\nreason = "a \\"b\\""\n',
    ),
    "another-phase": (
        [failed("c", "build")],
        FILE.replace('reason = "issue 3"\nphase = "run"', 'reason = "issue 3"\nphase = "build"'),
    ),
    "passed": ([RecordedCase("b", "unexpected pass")], WITHOUT_B),
    "first-passed": (
        [RecordedCase("a", "unexpected pass")],
        FILE[: FILE.index("# about a")] + FILE[FILE.index("\n# a remark") :],
    ),
    "skipped": (
        [RecordedCase("b", calls={1: {"verdict": "device-missing", "phase": "run"}})],
        FILE,
    ),
}


@pytest.mark.parametrize("name", REWRITINGS)
def test_rewriting_keeps_what_people_wrote(name: str, tmp_path: Path) -> None:
    cases, expected = REWRITINGS[name]
    file = tmp_path / "waivers.toml"
    file.write_text(FILE)
    rewrite(file, cases)
    assert file.read_text() == expected
    read(file)


def test_everything_can_pass_and_fail_again(tmp_path: Path) -> None:
    file = tmp_path / "waivers.toml"
    file.write_text(FILE)
    rewrite(file, [RecordedCase(case, "unexpected pass") for case in "abc"])
    assert read(file) == {}
    assert file.read_text() == "# Known failures.\n\n\n# a remark on its own\n\n"
    rewrite(file, [failed("a", "run", "back")])
    assert read(file) == {"a": Waiver("a", "run", "back")}


class TestCommand:
    def test_a_run_makes_the_file_and_another_empties_it(
        self, kernels: Path, pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run_here(pytester, "--junit-xml", "log.xml").assert_outcomes(passed=1, failed=2)
        assert main(["waivers", "--from", "log.xml", str(kernels)]) == 0
        printed = capsys.readouterr().out
        assert "added    test_kernels.py::test_bad (compare: device and reference differ first in" in printed
        assert f"3 cases in log.xml: {kernels} written" in printed
        assert list(read(kernels)) == ["test_kernels.py::test_bad"]

        run_here(pytester, "--junit-xml", "log.xml").assert_outcomes(passed=1, failed=1, xfailed=1)
        assert main(["waivers", "--from", "log.xml", str(kernels)]) == 0
        assert "3 cases in log.xml: nothing to change" in capsys.readouterr().out

        pytester.makepyfile(test_kernels=BODY.replace("KERNEL, wrong", "KERNEL, REFERENCE"))
        run_here(pytester, "--junit-xml", "log.xml").assert_outcomes(passed=1, failed=2)
        assert main(["waivers", "--from", "log.xml", str(kernels)]) == 0
        assert "removed  test_kernels.py::test_bad (compare: device and" in capsys.readouterr().out
        assert read(kernels) == {}

    def test_an_expected_exception_is_no_failure(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(
            vta_tests("""
def test_catches(bitexact):
    with pytest.raises(AssertionError, match="mismatch"):
        bitexact.verify(KERNEL, wrong, "vta")
""")
        )
        run_here(pytester, "--junit-xml", "log.xml").assert_outcomes(passed=1)
        (case,) = cases_of_junit(pytester.path / "log.xml")
        assert case.failed() is None

    @pytest.mark.parametrize(
        ("log", "file", "message"),
        [
            (None, None, "log.xml: "),
            ("<testsuites", None, "log.xml: unclosed token"),
            ("<testsuites/>", None, "log.xml holds no test: write one with pytest --junit-xml log.xml"),
            ("<t><testcase/></t>", None, "log.xml: none of its 1 tests used the fixture bitexact"),
            (
                '<t><testcase><property name="bitexact.case" value="a"/></testcase></t>',
                "[[wrong]]",
                "waivers.toml: unknown 'wrong'",
            ),
        ],
        ids=["no-log", "no-xml", "no-test", "no-case", "no-waivers"],
    )
    def test_what_it_cannot_use_is_one_line(
        self,
        log: str | None,
        file: str | None,
        message: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        for name, text in (("log.xml", log), ("waivers.toml", file)):
            if text is not None:
                (tmp_path / name).write_text(text)
        assert main(["waivers", "--from", str(tmp_path / "log.xml"), str(tmp_path / "waivers.toml")]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert error.startswith("bitexact waivers: ")
        assert message in error
