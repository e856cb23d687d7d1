"""What a session leaves: bundles of failures, which can be replayed, and artefacts where asked for."""

import json
import re
from pathlib import Path

import pytest

from tests.pytest_plugin.repository import run_apart, run_here, vta_tests

BAD = vta_tests("def test_bad(bitexact):\n    bitexact.verify(KERNEL, wrong, 'vta')\n")


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BITEXACT_BUNDLES", raising=False)


def bundle_of(pytester: pytest.Pytester, body: str, *arguments: str) -> Path:
    pytester.makepyfile(body)
    result = run_here(pytester, "--junit-xml", "log.xml", *arguments)
    result.assert_outcomes(failed=1)
    (path,) = re.findall(r'"bitexact\.bundle" value="([^"]+)"', (pytester.path / "log.xml").read_text())
    result.stdout.fnmatch_lines([f"E *kept in {path} (bitexact replay {path})"])
    return Path(path)


def test_a_failure_is_kept_with_the_temporary_files(pytester: pytest.Pytester) -> None:
    path = bundle_of(pytester, BAD)
    manifest = json.loads((path / "bundle.json").read_text())
    assert manifest["workload"] == "test_bad"
    assert manifest["notes"] == {"test": "test_a_failure_is_kept_with_the_temporary_files.py::test_bad"}
    assert manifest["seed"] is not None
    assert pytester.path not in path.parents


@pytest.mark.parametrize("how", ["option", "environment"])
def test_a_folder_can_be_named(how: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "environment":
        monkeypatch.setenv("BITEXACT_BUNDLES", "kept")
    path = bundle_of(pytester, BAD, *(["--bitexact-bundles", "kept"] if how == "option" else []))
    assert path.parent == pytester.path / "kept"


def test_nowhere_is_a_place_too_and_a_known_failure_is_not_kept(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=BAD)
    run_here(pytester, "--bitexact-bundles", "none", "--junit-xml", "log.xml").assert_outcomes(failed=1)
    assert "bitexact.bundle" not in (pytester.path / "log.xml").read_text()
    (pytester.path / "bitexact-waivers.toml").write_text(
        '[[waiver]]\ncase = "test_it.py::test_bad"\nphase = "compare"\nreason = "issue 12"\n'
    )
    run_here(pytester, "--bitexact-bundles", "kept").assert_outcomes(xfailed=1)
    assert not (pytester.path / "kept").exists()


def test_a_folder_that_cannot_be_written_does_not_hide_the_failure(pytester: pytest.Pytester) -> None:
    (pytester.path / "kept").write_text("a file")
    pytester.makepyfile(BAD)
    result = run_here(pytester, "--bitexact-bundles", "kept")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *in phase compare", "E *the failing case could not be kept in *kept: *"])


class TestReplay:
    def test_a_bundle_is_one_item_and_fails_again(self, pytester: pytest.Pytester) -> None:
        path = bundle_of(pytester, BAD, "--bitexact-bundles", "kept")
        result = run_here(pytester, "--bitexact-replay", str(path), "-v")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            [
                "*collected 1 item",
                "kept/*::replay FAILED*",
                "vta on sim: mismatch, in phase compare",
                "*mismatch between device and reference",
                "reproduced: mismatch in *",
                "verdicts: 1 mismatch",
            ]
        )
        assert "replaying.py" not in result.stdout.str()

    @pytest.mark.slow
    def test_a_bundle_outside_of_the_repository_is_replayed_by_workers(
        self, pytester: pytest.Pytester, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        folder = tmp_path_factory.mktemp("elsewhere")
        path = bundle_of(pytester, BAD, "--bitexact-bundles", str(folder))
        result = run_apart(pytester, "--bitexact-replay", str(path), "-n", "1")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["reproduced: mismatch in kernel *"])

    def test_a_test_can_replay_what_is_kept(self, pytester: pytest.Pytester) -> None:
        path = bundle_of(pytester, BAD, "--bitexact-bundles", "kept")
        pytester.makepyfile(
            f"""
            def test_kept(bitexact):
                bitexact.replay({str(path)!r})
            """
        )
        result = run_here(pytester)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["E *reproduced: mismatch in kernel *"])

    def test_what_is_no_bundle_is_said(self, pytester: pytest.Pytester) -> None:
        (pytester.path / "empty").mkdir()
        result = run_here(pytester, "--bitexact-replay", "empty")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*empty is no bundle: it has no bundle.json"])
        result = run_here(pytester, "--bitexact-replay", "nothing")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*--bitexact-replay: there is no folder nothing"])


def test_artefacts_are_kept_where_asked_for(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        vta_tests("""
@pytest.mark.parametrize("name", ["a/b", "a-b"])
def test_dense(bitexact, name):
    bitexact.verify(KERNEL, REFERENCE, "vta")
    bitexact.verify(KERNEL, REFERENCE, "vta")
""")
    )
    run_here(pytester, "--junit-xml", "log.xml", "--bitexact-artifacts", "built").assert_outcomes(passed=2)
    log = (pytester.path / "log.xml").read_text()
    folders = [Path(path) for path in re.findall(r'"bitexact(?:#2)?\.artifact" value="([^"]+)"', log)]
    assert len(set(folders)) == 4
    for folder in folders:
        assert folder.parent == pytester.path / "built"
        assert [path.name for path in folder.iterdir()] == ["kernel.vta"]
        assert (folder / "kernel.vta").read_bytes().startswith(b"VTAPROG1")
