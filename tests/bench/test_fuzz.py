"""Fuzzing: what is drawn, that a batch is judged case by case, that nothing hangs, and that it can fail."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tvm

from bench import bundles
from bench.cli import main
from bench.compare.mismatch import find_pass_mismatch
from bench.evaluate import evaluate_all
from bench.flows.flow import TARGETS, Unsupported, flow_for
from bench.fuzz.cases import TOGETHER, Batch, batch, draw_case, draw_options
from bench.fuzz.graphs import Graph
from bench.fuzz.judging import judge, judge_graphs
from bench.fuzz.operands import biases, operand
from bench.fuzz.outcome import Outcome
from bench.fuzz.pool import Judge, Pool, WorkerEndedError
from bench.fuzz.search import Search, keep, search
from bench.fuzz.support import support_of
from bench.fuzz.together import one_graph
from bench.passes.lift_kernels import bindings_of
from bench.tuning.drawing import drawn_tiling
from kernels.tensorcore.dense import dense_primfunc
from simulators.vta import Config
from tests.bench.integer_graphs import dense

FAULT = "vta-shift-by-one"


DRAWN = {
    "tensorcore": {"relax.nn.conv2d", "relax.matmul", "bitexact.requantize", "relax.nn.max_pool2d"},
    "hexagon": {"relax.nn.conv2d", "relax.matmul", "bitexact.requantize", "relax.sum"},
    "vta": {"relax.nn.conv2d", "relax.matmul", "relax.right_shift", "relax.clip", "relax.nn.relu"},
}


class TestDrawing:
    @pytest.mark.parametrize("target", TARGETS)
    def test_a_case_depends_on_seed_and_number_alone(self, target: str) -> None:
        for index in (0, 7):
            one, same, other = (draw_case(target, seed, index) for seed in (3, 3, 4))
            tvm.ir.assert_structural_equal(one.module, same.module)
            np.testing.assert_array_equal(one.inputs["data"], same.inputs["data"])
            assert one.module.script(show_meta=True) != other.module.script(show_meta=True)

    @pytest.mark.parametrize("target", TARGETS)
    def test_the_passes_keep_what_is_drawn(self, target: str) -> None:
        flow = flow_for(target)
        taken = 0
        for index in range(15):
            case = draw_case(target, 5, index)
            original = evaluate_all(case.module, case.inputs)
            try:
                transformed = flow.transform(case.module)
            except Unsupported:
                continue
            reference = evaluate_all(transformed.mod, case.inputs, overrides=flow.overrides)
            assert find_pass_mismatch(transformed, reference, original) is None
            taken += 1
        assert taken > 7

    @pytest.mark.parametrize("target", TARGETS)
    def test_everything_is_drawn_sooner_or_later(self, target: str) -> None:
        calls = [
            binding.value
            for index in range(120)
            for binding in bindings_of(draw_case(target, 1, index).module["main"])
            if isinstance(binding.value, tvm.ir.Call)
        ]
        names = {call.op.name for call in calls}
        assert DRAWN[target] <= names
        assert {"relax.add", "relax.left_shift", "relax.maximum"} <= names
        windows = [call.attrs for call in calls if call.op.name == "relax.nn.conv2d"]
        assert any(int(window.groups) > 1 for window in windows)
        assert any(set(map(int, window.dilation)) != {1} for window in windows)
        assert any(len(set(map(int, window.padding))) > 1 for window in windows)
        assert {str(window.data_layout) for window in windows} == set(support_of(target).layouts)
        pairs = {
            tuple(str(operand.ty.dtype) for operand in call.args)
            for call in calls
            if call.op.name in ("relax.nn.conv2d", "relax.matmul")
        }
        assert pairs == set(support_of(target).pairs)

    def test_schedules_and_configurations(self) -> None:
        seeds = [draw_options("tensorcore", 0, number).get("schedule_seed") for number in range(20)]
        assert None in seeds
        assert len(set(seeds)) > 10
        configs = {draw_options("vta", 0, number).get("config") for number in range(20)}
        assert None in configs
        assert len({config.block for config in configs if isinstance(config, Config)}) == 3
        assert draw_options("hexagon", 0, 1) == {}
        assert draw_options("tensorcore", 0, 1) == draw_options("tensorcore", 0, 1)

    def test_a_tiling_is_drawn_from_the_seed_and_the_kernel(self) -> None:
        block, other = dense_primfunc((64, 128), units=64), dense_primfunc((64, 128), units=96)
        tilings = {drawn_tiling(block, seed=seed) for seed in range(8)}
        assert len(tilings) > 3
        assert drawn_tiling(block, seed=2) == drawn_tiling(block, seed=2)
        assert any(drawn_tiling(block, seed=seed) != drawn_tiling(other, seed=seed) for seed in range(4))

    def test_a_drawn_tiling_is_what_is_built(self) -> None:
        module = dense(16, 128, 64)
        texts = set()
        for seed in (None, 1):
            flow = flow_for("tensorcore", schedule_seed=seed)
            files = flow.machine_files(flow.transform(module))
            texts.add(files["dense_kernel.ptx"])
        assert len(texts) > 1

    def test_operands_reach_the_ends_of_their_type(self) -> None:
        rng = np.random.default_rng(0)
        for dtype, low, high in (("int8", -128, 127), ("uint8", 0, 255), ("int4", -8, 7), ("uint4", 0, 15)):
            arrays = [operand(rng, (4, 8), dtype) for _ in range(60)]
            assert min(array.min() for array in arrays) == low
            assert max(array.max() for array in arrays) == high
            assert any(len(np.unique(array)) <= 2 for array in arrays)
        ends = [biases(rng, (16,)) for _ in range(60)]
        assert {min(int(array.min()) for array in ends), max(int(array.max()) for array in ends)} == {
            -(2**31),
            2**31 - 1,
        }


class TestBatches:
    def test_cases_are_the_same_however_they_are_cut(self) -> None:
        whole = batch("vta", 1, 0)
        assert whole.indices == tuple(range(TOGETHER))
        assert batch("vta", 1, 1, cases=TOGETHER + 2).indices == (TOGETHER, TOGETHER + 1)
        first, second = whole.halves()
        assert first.indices + second.indices == whole.indices
        assert first.options == second.options == whole.options
        assert Batch.from_json(json.loads(json.dumps(whole.to_json()))) == whole

    def test_one_graph_in_four_batches_is_compiled_as_the_bench_does(self) -> None:
        levels = [batch("vta", 0, number).host.get("opt-level") for number in range(8)]
        assert levels == [None, 0, 0, 0, None, 0, 0, 0]

    def test_names_of_one_graph_begin_alike(self) -> None:
        cases = [draw_case("vta", 1, index) for index in range(3)]
        whole = one_graph(cases)
        names = [parameter.name for parameter in whole.module["main"].params]
        assert names == ["case0_data", "case1_data", "case2_data"]
        assert set(whole.inputs) == set(names)

    def test_a_fault_is_found_in_the_case_that_has_it(self) -> None:
        """Of a batch that is compiled together, one case has the fault, and one alone is blamed."""
        right = judge(Batch("vta", 5, (13, 15)))
        wrong = judge(Batch("vta", 5, (13, 15), FAULT))
        assert not any(each.is_finding for each in right)
        assert [each.index for each in wrong] == [13, 15]
        (found,) = [each for each in wrong if each.is_finding]
        assert (found.index, found.kind, found.device) == (13, "mismatch", "sim")
        assert [each for each in wrong if each is not found] == [
            each for each in right if each.index != found.index
        ]

    def test_what_breaks_the_passes_costs_one_case(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from bench.flows.vta import VtaFlow

        honest = VtaFlow.transform

        def transform(flow: VtaFlow, mod: tvm.IRModule) -> object:
            if any("matmul" in str(binding.value) for binding in bindings_of(mod["main"])):
                raise KeyError("matmul")
            return honest(flow, mod)

        monkeypatch.setattr(VtaFlow, "transform", transform)
        module = dense(1, 4, 4, scheme="pow2")
        graphs = [draw_case("vta", 1, 8), Graph(module, {"data": np.ones((1, 4), np.int8)})]
        one, other = judge_graphs(Batch("vta", 1, (0, 1)), graphs)
        assert one.kind == "exact"
        assert (other.kind, other.cause) == ("crash", "the bench raised KeyError: 'matmul'")

    def test_an_instruction_that_is_not_executed_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from bench.devices.machines.vta import VtaMachine

        honest = VtaMachine.call

        def call(machine: VtaMachine, kernel: str, arguments: list[np.ndarray]) -> object:
            report = honest(machine, kernel, arguments)
            report.counters["tensor_instructions"] = 0
            return report

        monkeypatch.setattr(VtaMachine, "call", call)
        (found,) = judge(Batch("vta", 1, (8,)))
        assert (found.kind, found.device) == ("build-error", "sim")
        assert "executed no GEMM" in found.cause


WORKER = """
import json, os, sys, time
for line in sys.stdin:
    batch = json.loads(line)
    if 3 in batch["indices"]:
        print("out of cheese", file=sys.stderr, flush=True)
        os._exit(7)
    if 5 in batch["indices"]:
        time.sleep(60)
    time.sleep(0.05 * (batch["indices"][0] == 0))
    print(json.dumps([{"index": index, "kind": "exact"} for index in batch["indices"]]), flush=True)
"""


def fake_judge(seconds: float = 30.0) -> Judge:
    return Judge((sys.executable, "-c", WORKER), seconds=seconds)


class TestProcesses:
    def test_the_case_that_kills_its_process_is_found(self) -> None:
        judge = fake_judge()
        outcomes = judge.judge(Batch("vta", 0, (0, 1, 2, 3)))
        judge.close()
        assert [outcome.kind for outcome in outcomes] == ["exact", "exact", "exact", "crash"]
        assert "exit status 7" in outcomes[3].cause

    def test_the_case_that_hangs_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("bench.fuzz.pool.SECONDS_PER_CASE", 0.0)
        judge = fake_judge(seconds=1.0)
        outcomes = judge.judge(Batch("vta", 0, (4, 5)))
        judge.close()
        assert [outcome.kind for outcome in outcomes] == ["exact", "timeout"]

    @pytest.mark.parametrize("jobs", [1, 3])
    def test_results_come_in_order_whatever_the_number_of_processes(self, jobs: int) -> None:
        with Pool(jobs, judges=fake_judge) as pool:
            outcomes = list(pool.outcomes(Batch("vta", 0, (index,)) for index in (0, 1, 2, 6, 7)))
        assert [each.index for (each,) in outcomes] == [0, 1, 2, 6, 7]

    def test_a_search_that_ends_in_the_middle_leaves_no_process(self) -> None:
        """Ctrl-C comes while a process works: it is ended, and none is started after it."""
        started: list[Judge] = []

        def judge() -> Judge:
            started.append(fake_judge())
            return started[-1]

        batches = (Batch("vta", 0, (index,)) for index in (6, 5, 7, 8))
        with Pool(2, judges=judge) as pool:
            next(pool.outcomes(batches))
        for each in started:
            with pytest.raises(WorkerEndedError, match="the search has ended"):
                each._start()
        assert not any(thread.is_alive() for thread in pool._threads)

    def test_what_the_drawing_raises_is_raised(self) -> None:
        def broken() -> Iterator[Batch]:
            raise RuntimeError("no more cases")
            yield

        with Pool(1, judges=fake_judge) as pool, pytest.raises(RuntimeError, match="no more cases"):
            list(pool.outcomes(broken()))

    def test_a_real_process(self) -> None:
        judge = Judge()
        (outcome,) = judge.judge(Batch("vta", 13, (13,), FAULT))
        judge.close()
        judge.close()
        assert outcome.kind == "mismatch"


class FakePool(Pool):
    """Judges in no time: odd cases fail, in two ways."""

    def __init__(self, jobs: int) -> None:
        super().__init__(0)
        self.jobs = jobs

    def outcomes(self, batches: Iterator[Batch]) -> Iterator[list[Outcome]]:
        for number, each in enumerate(batches):
            if number == 2:
                raise KeyboardInterrupt
            yield [
                Outcome(index, "mismatch", "sim", "conv2d" if index % 4 == 1 else "dense")
                if index % 2
                else Outcome(index, "exact", tensorised=1, layers=2)
                for index in each.indices
            ]


class TestSearch:
    def test_findings_are_told_apart_and_counted(self) -> None:
        state = search("vta", cases=TOGETHER, pool=FakePool)
        assert (state.cases, state.interrupted) == (TOGETHER, False)
        assert [(each.outcome.index, each.count) for each in state.findings] == [(1, 3), (3, 3)]
        assert state.kinds == {"mismatch": 6, "exact": 6}
        assert (state.tensorised, state.layers) == (6, 12)
        assert state.rate > 0

    def test_ctrl_c_keeps_what_there_is(self) -> None:
        state = search("vta", minutes=10, pool=FakePool)
        assert (state.cases, state.interrupted) == (2 * TOGETHER, True)

    def test_time_is_up(self) -> None:
        assert search("vta", minutes=1e-9, pool=FakePool).cases == 0

    def test_it_needs_an_end(self) -> None:
        with pytest.raises(ValueError, match="a search needs an end: minutes or cases"):
            search("vta")

    def test_what_fails_only_in_company_is_kept_with_it(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def run(module: tvm.IRModule, *_: object, trace: object, workload: str, **__: object) -> object:
            from bench.compare.verdict import Verdict

            trace.mod, trace.inputs = module, {}  # type: ignore[attr-defined]
            alone = "batch" not in workload
            return Verdict(workload, "vta", "sim", "exact" if alone else "crash", reason="together")

        monkeypatch.setattr("bench.fuzz.search.run_to_verdict", run)
        state = Search("vta", 1)
        state.take(Outcome(3, "crash", "sim", cause="together"))
        keep(state, state.findings[0], tmp_path)
        assert "in the company of the other cases" in state.findings[0].note
        path = state.findings[0].bundle
        assert path is not None
        parameters = bundles.read(path).trace.mod["main"].params  # type: ignore[index]
        assert len(parameters) == TOGETHER

    def test_what_does_not_fail_again_is_said(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        from bench.compare.verdict import Verdict

        exact = Verdict("", "vta", "sim", "exact")
        monkeypatch.setattr("bench.fuzz.search.run_to_verdict", lambda *_, **__: exact)
        state = Search("vta", 1)
        state.take(Outcome(3, "crash", "sim"))
        keep(state, state.findings[0], tmp_path)
        assert state.findings[0].note == "failed once, and not again by itself"
        assert list(tmp_path.iterdir()) == []


USAGE = {
    "target": (["--target", "npu"], "unknown target 'npu'"),
    "cases": (["--cases", "0"], "'0' is not a whole number above 0"),
    "minutes": (["--minutes", "-1"], "'-1' is not a number above 0"),
    "jobs": (["--jobs", "many"], "'many' is not a whole number above 0"),
    "seed": (["--seed", "x"], "'x' is not a whole number from 0"),
    "fault": (["--inject", FAULT, "--target", "hexagon"], "fault vta-shift-by-one is one of vta"),
    "json": (["--json", "/nowhere/fuzz.json"], "--json: there is no folder /nowhere"),
}


class TestCommand:
    def test_a_planted_fault_is_found_minimised_and_kept(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        report = tmp_path / "fuzz.json"
        arguments = [
            "fuzz",
            "--target",
            "vta",
            "--seed",
            "1",
            "--cases",
            "1",
            "--jobs",
            "1",
            "--seconds",
            "5",
        ]
        options = ["--inject", FAULT, "--bundles", str(tmp_path / "kept"), "--json", str(report)]
        assert main([*arguments, *options]) == 1
        printed = capsys.readouterr().out
        assert "vta, seed 1: 1 cases in" in printed
        assert "a minute, 1 process\n" in printed
        (found,) = json.loads(report.read_text())["searches"]
        (finding,) = found["findings"]
        assert (found["cases"], finding["index"], finding["kind"]) == (1, 0, "mismatch")
        assert found["cases_a_minute"] > 0
        whole, minimised = (bundles.read(finding[name]) for name in ("bundle", "minimised"))
        assert sum(array.size for array in minimised.trace.inputs.values()) < sum(
            array.size for array in whole.trace.inputs.values()
        )
        assert str(minimised.path) in printed
        assert main(["replay", str(minimised.path)]) == 1
        assert "\nreproduced: mismatch in dense" in capsys.readouterr().out

    @pytest.mark.parametrize("case", USAGE)
    def test_usage_errors(self, case: str, capsys: pytest.CaptureFixture[str]) -> None:
        arguments, message = USAGE[case]
        try:
            status: object = main(["fuzz", *arguments])
        except SystemExit as end:
            status = end.code
        assert status == 2
        assert message in capsys.readouterr().err

    def test_a_missing_simulator_is_said(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("simulators.hvx.qemu.available", lambda: "qemu-hexagon is not there")
        assert main(["fuzz", "--target", "hexagon", "--cases", "1"]) == 1
        assert "hexagon: device-missing: qemu-hexagon is not there" in capsys.readouterr().err

    def test_ctrl_c_ends_with_a_summary(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def interrupted(*_: object, **__: object) -> Search:
            state = Search("vta", 4, interrupted=True)
            state.take(Outcome(0, "exact"))
            return state

        monkeypatch.setattr("bench.fuzz.search.search", interrupted)
        assert main(["fuzz", "--target", "vta,hexagon", "--cases", "9"]) == 130
        assert "vta, seed 4: 1 cases in 0.0 s, 0 a minute, 1 process, interrupted" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_a_search_finds_nothing(target: str) -> None:
    state = search(target, seed=11, cases=4 * TOGETHER, jobs=2)
    assert [finding.to_json() for finding in state.findings] == []
    assert state.kinds["exact"] > 2 * TOGETHER
