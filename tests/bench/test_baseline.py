"""A baseline names what changed since: verdicts, tensor instructions, counters, versions, cases."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import bench
from bench.baseline.cases import Baseline, BaselineError, Case, Layer, read_baseline, read_runs
from bench.baseline.comparison import Change, compare
from bench.baseline.directions import Better, better, is_known
from bench.cli import main
from bench.compare.verdict import LayerVerdict, Verdict
from bench.reports import json_file
from bench.reports.changes import changes_table, summary
from simulators.hvx import qemu
from tests.bench.test_pipeline import TARGETS, graph

LAYER = Layer(
    "conv2d",
    "1x64x14x14 * 64x64x3x3 s1 p1",
    "vrmpyub",
    "exact",
    {"packets": 600, "vrmpy": 1000, "instructions": 9},
)
POOL_PACKETS = 50
CASE = Case(
    workload="digits",
    target="hexagon",
    device="sim",
    inputs="16x1x8x8 uint8",
    verdict="exact",
    counters={"packets": 600 + POOL_PACKETS, "vrmpy": 1000, "shared_bank_conflicts": 0, "mystery": 1},
    layers={"conv1": LAYER},
)
VERSIONS = {"python": "3.11.7", "apache-tvm": "0.27.0.post1"}
BASE = Baseline(VERSIONS, [CASE])
NAME = "digits 16x1x8x8 uint8 hexagon"


def with_case(**changes: object) -> Baseline:
    return Baseline(VERSIONS, [replace(CASE, **changes)])  # type: ignore[arg-type]


def with_layer(**changes: object) -> Baseline:
    return with_case(layers={"conv1": replace(LAYER, **changes)})  # type: ignore[arg-type]


def counted(layer: dict[str, int], case: dict[str, int]) -> Baseline:
    return with_case(
        counters={**CASE.counters, **case},
        layers={"conv1": replace(LAYER, counters={**LAYER.counters, **layer})},
    )


SAME: list[tuple[str, str, object, object, str]] = []
# layer, what, before, after, judgement
CHANGES = {
    "nothing": (BASE, SAME),
    "a-verdict-that-was-exact": (
        with_case(verdict="mismatch"),
        [("", "verdict", "exact", "mismatch", "worse")],
    ),
    "a-layer-that-was-exact": (
        with_layer(verdict="mismatch"),
        [("conv1", "verdict", "exact", "mismatch", "worse")],
    ),
    "more-packets-per-vrmpy": (
        counted({"packets": 900}, {"packets": 950}),
        [
            ("conv1", "packets per vrmpy", 0.6, 0.9, "worse"),
            ("conv1", "packets", 600, 900, "worse"),
            ("", "packets per vrmpy", 0.65, 0.95, "worse"),
            ("", "packets", 650, 950, "worse"),
        ],
    ),
    "fewer-packets": (
        counted({}, {"packets": 640}),
        [("", "packets per vrmpy", 0.65, 0.64, "better"), ("", "packets", 650, 640, "better")],
    ),
    "more-bank-conflicts": (
        counted({}, {"shared_bank_conflicts": 32}),
        [("", "shared_bank_conflicts", 0, 32, "worse")],
    ),
    "a-counter-of-no-direction": (counted({}, {"mystery": 2}), [("", "mystery", 1, 2, "other")]),
    "a-counter-of-one-device-only": (with_case(counters={"wmma": 3}), SAME),
    "a-lost-tensor-instruction": (
        with_layer(instruction=None),
        [
            ("", "layers tensorised", 1, 0, "worse"),
            ("conv1", "tensor instruction", "vrmpyub", None, "worse"),
        ],
    ),
    "another-tensor-instruction": (
        with_layer(instruction="vrmpyubv"),
        [("conv1", "tensor instruction", "vrmpyub", "vrmpyubv", "other")],
    ),
    "another-shape": (
        with_layer(shapes="other"),
        [("conv1", "layer", "conv2d 1x64x14x14 * 64x64x3x3 s1 p1", "conv2d other", "other")],
    ),
    "a-layer-that-is-gone": (
        with_case(layers={"conv2": LAYER}),
        [
            ("conv1", "layer", "conv2d 1x64x14x14 * 64x64x3x3 s1 p1", None, "other"),
            ("conv2", "layer", None, "conv2d 1x64x14x14 * 64x64x3x3 s1 p1", "other"),
        ],
    ),
    "a-case-that-no-longer-begins": (
        with_case(verdict="unsupported", layers={}, counters={}),
        [("", "verdict", "exact", "unsupported", "worse")],
    ),
    "another-device": (
        with_case(device="rpc://board:9090"),
        [("", "device", "sim", "rpc://board:9090", "other")],
    ),
}


def said(changes: list[Change]) -> list[tuple[str, str, object, object, str]]:
    return [
        (change.layer, change.what, change.before, change.after, change.judgement.value) for change in changes
    ]


@pytest.mark.parametrize("case", CHANGES)
def test_what_changed_is_named_and_judged(case: str) -> None:
    after, expected = CHANGES[case]
    changes = compare(BASE, after)
    assert said(changes) == expected
    assert {change.case for change in changes} <= {NAME}


@pytest.mark.parametrize("case", CHANGES)
def test_seen_from_the_other_side_worse_is_better(case: str) -> None:
    turned = {"worse": "better", "better": "worse", "other": "other"}
    after, expected = CHANGES[case]
    there = {(layer, what, new, old, turned[judgement]) for layer, what, old, new, judgement in expected}
    assert set(said(compare(after, BASE))) == there


def test_a_verdict_that_stays_wrong_in_another_way_is_neither() -> None:
    changes = compare(with_case(verdict="mismatch"), with_case(verdict="crash"))
    assert said(changes) == [("", "verdict", "mismatch", "crash", "other")]


@pytest.mark.parametrize(
    ("verdict", "there", "gone"), [("exact", "other", "worse"), ("crash", "worse", "worse")]
)
def test_cases_that_are_new_or_missing(verdict: str, there: str, gone: str) -> None:
    empty, one = Baseline(VERSIONS, []), with_case(verdict=verdict)
    assert said(compare(empty, one)) == [("", "verdict", None, verdict, there)]
    assert said(compare(one, empty)) == [("", "verdict", verdict, None, gone)]


def test_versions_that_differ_are_named() -> None:
    after = Baseline({"python": "3.11.7", "apache-tvm": "0.28.0", "numpy": "2.4"}, [CASE])
    assert said(compare(BASE, after)) == [
        ("", "apache-tvm", "0.27.0.post1", "0.28.0", "other"),
        ("", "numpy", None, "2.4", "other"),
    ]


def test_a_case_on_several_devices_is_compared_device_by_device() -> None:
    host = replace(CASE, device="host", counters={}, verdict="mismatch")
    before = Baseline(VERSIONS, [CASE, host])
    assert compare(before, Baseline(VERSIONS, [host, CASE])) == []
    assert said(compare(before, BASE)) == [("", "verdict", "mismatch", None, "worse")]


TOLERANCES: dict[str, tuple[dict[str, float], str]] = {
    "none": ({}, "worse"),
    "enough": ({"": 0.5}, "other"),
    "too-little": ({"": 0.4}, "worse"),
    "of-that-counter": ({"": 0.0, "packets": 0.5}, "other"),
    "of-another": ({"instructions": 0.5}, "worse"),
}


@pytest.mark.parametrize("case", TOLERANCES)
def test_a_tolerance_is_a_share_of_what_was(case: str) -> None:
    tolerances, judgement = TOLERANCES[case]
    before, after = (with_case(counters={"packets": packets}) for packets in (100, 150))
    assert said(compare(before, after, tolerances=tolerances)) == [("", "packets", 100, 150, judgement)]


DIRECTIONS = {
    "shared_bank_conflicts": Better.LESS,
    "packets per vrmpy": Better.LESS,
    "wgt_load_nbytes": Better.LESS,
    "instructions": Better.LESS,
    "instructions.mad": Better.NEITHER,
    "tensor_instructions": Better.NEITHER,
    "layers tensorised": Better.MORE,
    "unheard_of": Better.NEITHER,
}


@pytest.mark.parametrize("counter", DIRECTIONS)
def test_the_direction_of_a_counter(counter: str) -> None:
    assert better(counter) is DIRECTIONS[counter]
    assert is_known(counter) == (counter != "unheard_of")


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_the_table_speaks_of_every_counter(target: str) -> None:
    if target == "hexagon" and qemu.available():
        pytest.skip(str(qemu.available()))
    verdict = bench.run(*graph(target), target)
    assert verdict.exact
    assert [name for name in verdict.counters if not is_known(name)] == []


# ---- files ----


def verdict(**changes: object) -> Verdict:
    fields = {
        "workload": "digits",
        "target": "vta",
        "device": "sim",
        "verdict": "exact",
        "inputs": {"data": "16x1x8x8 int8"},
        "counters": {"gemm_counter": 16, "estimated_cycles": 1000},
        "layers": [
            LayerVerdict(
                "conv1",
                "conv2d",
                "shapes",
                "GEMM",
                16,
                None,
                "exact",
                {"gemm_counter": 16, "estimated_cycles": 999},
            )
        ],
    }
    return Verdict(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """Writes the JSON of a run."""

    def write(name: str, *verdicts: Verdict) -> Path:
        json_file.write(tmp_path / name, verdicts)
        return tmp_path / name

    return write


def test_a_baseline_is_read_as_it_was_saved(run: Callable[..., Path], tmp_path: Path) -> None:
    paths = [run("one.json", verdict()), run("two.json", verdict(device="host", counters={}))]
    baseline = read_runs(paths)
    assert [(case.name, case.device) for case in baseline.cases] == [
        ("digits 16x1x8x8 int8 vta", "sim"),
        ("digits 16x1x8x8 int8 vta", "host"),
    ]
    (tmp_path / "base.json").write_text(baseline.to_json())
    assert read_baseline(tmp_path / "base.json") == baseline


def test_save_and_compare_at_the_prompt(
    run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, out = str(tmp_path / "base.json"), tmp_path / "changes.json"
    good = str(run("run.json", verdict()))
    assert main(["baseline", "save", good, "-o", base]) == 0
    assert capsys.readouterr().out == f"{base}: 1 case, 1 of them exact\n"
    assert main(["baseline", "compare", base, good]) == 0
    assert capsys.readouterr().out == "1 case compared: nothing changed\n"
    slower = str(run("slower.json", verdict(counters={"gemm_counter": 16, "estimated_cycles": 1100})))
    assert main(["baseline", "compare", base, slower, "--json", str(out)]) == 1
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if "estimated_cycles" in line)
    assert row.split() == [
        "digits",
        "16x1x8x8",
        "int8",
        "vta",
        "-",
        "estimated_cycles",
        "1,000",
        "1,100",
        "+10.0",
        "%",
        "worse",
    ]
    assert printed.endswith("1 case compared: 1 worse\n")
    assert json.loads(out.read_text())["changes"] == [
        {
            "case": "digits 16x1x8x8 int8 vta",
            "layer": "",
            "what": "estimated_cycles",
            "before": 1000,
            "after": 1100,
            "judgement": "worse",
        }
    ]
    assert main(["baseline", "compare", base, slower, "--tolerance", "estimated_cycles=10"]) == 0
    assert "1 other" in capsys.readouterr().out


def test_of_single_layers_and_instructions_only_the_worse_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, run = tmp_path / "base.json", tmp_path / "run.json"
    layer = LayerVerdict("conv1", "conv2d", "shapes", "WMMA", 16, None, "exact", {"warp_instructions": 90})
    counters = {"warp_instructions": 100, "instructions.mad": 7, "shared_bank_conflicts": 0}
    json_file.write(run, [verdict(counters=counters, layers=[layer])])
    assert main(["baseline", "save", str(run), "-o", str(base)]) == 0
    changed = {"warp_instructions": 99, "instructions.mad": 8, "shared_bank_conflicts": 32}
    layer.counters = {"warp_instructions": 89}
    json_file.write(run, [verdict(counters=changed, layers=[layer])])
    capsys.readouterr()
    assert main(["baseline", "compare", str(base), str(run)]) == 1
    *rows, _, last = capsys.readouterr().out.splitlines()[2:]
    assert [row.split()[5] for row in rows] == ["shared_bank_conflicts", "warp_instructions"]
    assert last == "1 case compared: 1 worse, 2 better, 1 other (2 of them with -v only)"
    assert main(["baseline", "compare", str(base), str(run), "-v"]) == 1
    *rows, _, last = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == 4
    assert last == "1 case compared: 1 worse, 2 better, 1 other"


def test_the_summary_counts_what_there_is() -> None:
    changes = compare(BASE, counted({"packets": 500}, {}))
    assert "conv1" in changes_table(changes)
    assert summary(changes, cases=2) == "2 cases compared: 2 better"
    assert summary([], cases=1) == "1 case compared: nothing changed"


REFUSED = {
    "no-file": (None, "No such file"),
    "no-json": ("{", "no JSON"),
    "no-text": (b"\xff\xfe", "no JSON"),
    "a-list": ("[]", "is no baseline but something else"),
    "a-run": ('{"verdicts": []}', "is no baseline but the JSON of a run: bitexact baseline save"),
    "another-version": (
        '{"kind": "bitexact baseline", "format": 99}',
        "baseline format 99 is not supported: 1 is",
    ),
    "no-cases": ('{"kind": "bitexact baseline", "format": 1, "versions": {}}', "cases: it is missing"),
    "a-case-without-a-workload": (
        '{"kind": "bitexact baseline", "format": 1, "versions": {}, "cases": [{}]}',
        r"cases\[0\].workload: it is missing",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_baseline_is_refused(
    case: str, run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, message = REFUSED[case]
    path = tmp_path / "base.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BaselineError, match=message):
        read_baseline(path)
    assert main(["baseline", "compare", str(path), str(run("run.json", verdict()))]) == 2
    assert str(path) in capsys.readouterr().err


REFUSED_RUNS = {
    "a-baseline": ('{"kind": "bitexact baseline"}', "no JSON of a run"),
    "cut-short": ('{"verdicts": [', "no JSON"),
    "interrupted": (
        '{"versions": {}, "seed": null, "complete": false, "verdicts": []}',
        "was ended in the middle: run it again",
    ),
    "another-version": ('{"format": 99, "verdicts": []}', "format 99 is not supported: 1 is"),
    "no-verdicts": ('{"versions": {}, "seed": null, "verdicts": 5}', "verdicts: "),
}


@pytest.mark.parametrize("case", REFUSED_RUNS)
def test_what_is_no_run_is_refused(case: str, tmp_path: Path) -> None:
    content, message = REFUSED_RUNS[case]
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(BaselineError, match=message):
        read_runs([tmp_path / "run.json"])


def test_runs_that_do_not_belong_together_are_refused(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = run("one.json", verdict())
    with pytest.raises(BaselineError, match=r"digits 16x1x8x8 int8 vta on sim is there twice"):
        read_runs([one, run("two.json", verdict())])
    monkeypatch.setattr(json_file, "versions", lambda: {"apache-tvm": "0.99"})
    with pytest.raises(BaselineError, match=r"with different versions: .*apache-tvm 0\S+ and 0\.99"):
        read_runs([one, run("three.json", verdict(device="host"))])


@pytest.mark.parametrize("value", ["x", "-1", "packets=", "packets=nan", "inf"])
def test_a_tolerance_that_is_none_is_refused(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["baseline", "compare", "a.json", "b.json", f"--tolerance={value}"])
    assert caught.value.code == 2
    assert "is not [COUNTER=]PERCENT" in capsys.readouterr().err


def test_a_tolerance_of_a_counter_that_nobody_counts_is_refused(
    run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, one = str(tmp_path / "base.json"), str(run("run.json", verdict()))
    assert main(["baseline", "save", one, "-o", base]) == 0
    assert main(["baseline", "compare", base, one, "--tolerance", "packet=3"]) == 2
    assert "no case counts packet; counted is estimated_cycles, gemm_counter" in capsys.readouterr().err
