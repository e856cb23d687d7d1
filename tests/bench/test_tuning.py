"""Tuning: the search is MetaSchedule's, every candidate is checked, and later runs take the records."""

import itertools
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import Trace
from tvm_ffi import structural_equal

from bench.cli import main
from bench.devices.failure import DeviceFailure
from bench.devices.machines import machine_for
from bench.flows.kernel import packed_kernels
from bench.flows.tensorcore import TensorCoreFlow, primfunc
from bench.passes.quantize import quantize, quantize_input
from bench.pipeline import run
from bench.reports.tuning import conflicts, instructions, table, traffic
from bench.tuning import records
from bench.tuning.evolution import CostEstimate
from bench.tuning.layer import TunedLayer, convolution_layer, network_layers
from bench.tuning.measurement import compile_candidate, cost_of, measure
from bench.tuning.records import Records, device_folder, open_database
from bench.tuning.search import Tuning, tune
from bench.tuning.sets import SETS, ConvolutionSet, layers_of_set
from bench.workloads import load
from kernels.tensorcore.conv2d import schedule_conv2d
from kernels.tensorcore.default_tiling import default_tiling
from kernels.tensorcore.design_space import (
    KNOBS,
    apply_drawn,
    draw_knobs,
    is_acceptable,
    mutated,
    tiling_of,
    with_tiling,
)
from kernels.tensorcore.faults import swap_fragment_registers
from kernels.tensorcore.product import problem_of
from kernels.tensorcore.ptx import PtxKernel
from kernels.tensorcore.schedule import scheduled_function
from kernels.tensorcore.tiling import Tiling
from simulators.report import Report
from tests.bench.cuda_recorder import build_recorder
from tests.kernels.test_tensorcore_workloads import WORKLOADS

SMALL = (8, 64, 4, 64, 3, 1, 1)


def small_layer(dtype: str = "int4") -> TunedLayer:
    return convolution_layer(*SMALL, dtype=dtype)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[TunedLayer, Path, Tuning]:
    folder = tmp_path_factory.mktemp("records")
    layer = small_layer()
    return layer, folder, tune(layer, database=folder, trials=2, seed=3)


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_every_draw_is_in_the_trace_and_what_is_scheduled_is_legal(dtype: str) -> None:
    function = convolution_layer(8, 64, 6, 64, 3, 1, 1, dtype=dtype).function
    problem = problem_of(function)
    drawn = []
    for seed in range(1, 201):
        schedule = Schedule(function, seed=seed)
        draw_knobs(schedule, problem)
        drawn.append(tiling_of(schedule.trace))
    for name in KNOBS:
        if name not in ("block_row_warps", "warp_row_tiles"):  # one tile of the batch cannot be divided
            assert len({getattr(tiling, name) for tiling in drawn}) > 1, name
    accepted = [tiling for tiling in drawn if is_acceptable(tiling, problem)]
    assert 3 < len(accepted) < 100
    for tiling in accepted:
        tiling.check(problem)


def test_a_trace_is_replayed_with_one_other_decision() -> None:
    layer = small_layer()
    problem = problem_of(layer.function)
    first = Schedule(layer.function)
    with_tiling(first, problem, default_tiling(problem))
    before, scheduled = tiling_of(first.trace), 0
    for seed in range(20):
        trace = mutated(first.trace, seed)
        assert trace is not None
        after = tiling_of(trace)
        assert sum(getattr(before, name) != getattr(after, name) for name in KNOBS) == 1
        replayed = Schedule(layer.function)
        trace.apply_to_schedule(replayed, remove_postproc=True)
        replayed.enter_postproc()
        assert apply_drawn(replayed, problem) == is_acceptable(after, problem)
        if is_acceptable(after, problem):
            scheduled += 1
            expected = schedule_conv2d(layer.function, tiling=after)
            assert structural_equal(scheduled_function(replayed.mod["main"]), expected)
        else:
            assert structural_equal(replayed.mod["main"].body.block.body, noted(layer, trace))
    assert 0 < scheduled < 20


def noted(layer: TunedLayer, trace: Trace) -> object:
    """What a layer is after the knobs of a trace were drawn, and nothing was scheduled."""
    schedule = Schedule(layer.function)
    trace.apply_to_schedule(schedule, remove_postproc=True)
    return schedule.mod["main"].body.block.body


def test_metaschedule_strikes_no_knob_from_a_trace() -> None:
    layer = small_layer()
    problem = problem_of(layer.function)
    schedule = Schedule(layer.function)
    with_tiling(schedule, problem, default_tiling(problem))
    assert tiling_of(schedule.trace.simplified(remove_postproc=True)) == default_tiling(problem)


def test_where_no_knob_has_a_choice_nothing_is_mutated() -> None:
    assert mutated(Schedule(small_layer().function).trace, 0) is None


def test_the_estimate_learns_from_what_was_measured() -> None:
    problem = problem_of(small_layer().function)
    default = default_tiling(problem)
    wide = replace(default, vector_as=4)
    estimate = CostEstimate(problem)
    same = estimate([default, wide])
    assert same[0] == same[1]
    estimate.learn(default, 1000.0)
    estimate.learn(wide, 2000.0)
    learnt = estimate([default, wide, replace(wide, chunk=1), replace(default, chunk=1)])
    assert learnt[0] < learnt[1]
    assert learnt[3] < learnt[2]


def test_the_trace_of_another_schedule_has_no_tiling() -> None:
    schedule = Schedule(small_layer().function)
    with pytest.raises(ValueError, match="the trace has 0 decisions; a tiling has 17 knobs"):
        tiling_of(schedule.trace)


@pytest.mark.slow
def test_the_same_seed_finds_the_same(tuned: tuple[TunedLayer, Path, Tuning], tmp_path: Path) -> None:
    layer, _, first = tuned
    assert len(first.trials) == 2
    assert tune(layer, database=tmp_path / "same", trials=2, seed=3) == first
    other = tune(layer, database=tmp_path / "other", trials=2, seed=4)
    assert [trial.tiling for trial in other.trials] != [trial.tiling for trial in first.trials]


def test_the_best_is_the_cheapest_and_never_dearer_than_the_default(
    tuned: tuple[TunedLayer, Path, Tuning],
) -> None:
    layer, folder, tuning = tuned
    costs = [trial.cost for trial in (tuning.default, *tuning.trials) if trial.cost is not None]
    assert len(costs) == 3
    assert tuning.wrong == []
    assert tuning.best is not None
    assert tuning.best.cost == min(costs) <= (tuning.default.cost or 0)
    record = Records(folder).find(layer.function)
    assert record is not None
    assert (record.tiling, record.cost) == (tuning.best.tiling, tuning.best.cost)


def test_what_metaschedule_replays_is_what_a_run_schedules(tuned: tuple[TunedLayer, Path, Tuning]) -> None:
    layer, folder, tuning = tuned
    assert tuning.best is not None
    module = records.workload(layer.function)
    replayed = open_database(folder).query_schedule(module, records.target(), "main")
    again = schedule_conv2d(module["main"], tiling=tuning.best.tiling)
    assert structural_equal(scheduled_function(replayed.mod["main"]), again)


def test_the_cost_is_that_of_the_counters(tuned: tuple[TunedLayer, Path, Tuning]) -> None:
    layer, _, tuning = tuned
    for trial in tuning.trials:
        schedule = Schedule(layer.function)
        with_tiling(schedule, problem_of(layer.function), trial.tiling)
        kernel = compile_candidate(schedule.mod["main"])
        counters = measure(kernel, layer).counters
        assert (counters, cost_of(counters)) == (trial.counters, trial.cost)
    counters = tuning.default.counters
    sectors = counters["global_load_sectors"] + counters["global_store_sectors"]
    assert tuning.default.cost == (
        counters["warp_instructions"] + 4 * sectors + counters["shared_bank_conflicts"]
    )


UNROLLED = '"pragma_auto_unroll_max_step": 1500'


def sabotaged(scheduled: object) -> PtxKernel:
    """A compiler with a bug wherever it unrolls by 1500 steps."""
    kernel = compile_candidate(scheduled)
    if UNROLLED in str(scheduled):
        return replace(kernel, text=swap_fragment_registers(kernel.text))
    return kernel


def test_a_wrong_candidate_is_reported_and_never_used(tmp_path: Path) -> None:
    layer = small_layer("int8")
    tuning = tune(layer, database=tmp_path, trials=3, seed=2, build=sabotaged)
    broken = [trial for trial in tuning.trials if trial.tiling.auto_unroll_max_step == 1500]
    assert 0 < len(broken) < 3
    assert tuning.wrong == broken
    for trial in broken:
        assert trial.cost is None
        assert trial.failure is not None
        assert " elements differ, first at [" in trial.failure
    record = Records(tmp_path).find(layer.function)
    assert record is not None
    assert record.tiling.auto_unroll_max_step != 1500


class GpuThatIsNone:
    """Stands in for the process with the GPU: the PTX machine, and a clock of its own."""

    times = (900, 700, 800)

    def __init__(self, target: str, files: dict[str, bytes], *, device: str) -> None:
        assert (target, device) == ("tensorcore", "cuda")
        self.machine = machine_for(target)(files)
        self.clock = itertools.cycle(self.times)

    def call(self, kernel: str, inputs: Sequence[np.ndarray], output: np.ndarray) -> Report:
        report = self.machine.call(kernel, [*inputs, output])
        return Report({"device_nanoseconds": next(self.clock)}, report.findings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def test_a_gpu_measures_by_its_clock_and_its_records_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuned: tuple[TunedLayer, Path, Tuning]
) -> None:
    monkeypatch.setattr("bench.tuning.measurement.KernelProcess", GpuThatIsNone)
    layer, counted, _ = tuned
    on_gpu = tune(layer, database=device_folder(tmp_path, "cuda"), trials=1, device="cuda")
    assert (on_gpu.default.cost, on_gpu.default.counters) == (700, {"device_nanoseconds": 700})
    for name in (records.WORKLOADS, records.RECORDS):
        shutil.copy(counted / name, tmp_path)
    record = Records(tmp_path).find(layer.function)
    assert record is not None
    assert (record.device, record.cost) == ("cuda", 700)
    assert str(record) == "tuned, 700 ns on a GPU"
    assert table([on_gpu]).splitlines()[-1].split()[2:] == [
        *("1", "700", "700", "1.00"),
        *("-", "->", "-") * 3,
        "0",
    ]


@pytest.mark.parametrize("verdict", ["crash", "timeout"])
def test_a_candidate_that_kills_or_hangs_a_device_is_wrong(
    verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dies(GpuThatIsNone):
        def call(self, kernel: str, inputs: Sequence[np.ndarray], output: np.ndarray) -> Report:
            raise DeviceFailure(verdict, "as it was told to")

    monkeypatch.setattr("bench.tuning.measurement.KernelProcess", Dies)
    layer = small_layer("int8")
    kernel = compile_candidate(schedule_conv2d(layer.function))
    measured = measure(kernel, layer, device="cuda")
    assert (measured.failure, measured.wrong) == (f"{verdict}: as it was told to", True)


def test_a_device_that_is_missing_is_no_wrong_candidate(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.devices.machines.cuda.CudaMachine.missing", lambda: "no GPU: buy one")
    layer = small_layer("int8")
    kernel = compile_candidate(schedule_conv2d(layer.function))
    with pytest.raises(DeviceFailure, match="no GPU: buy one"):
        measure(kernel, layer, device="cuda")
    arguments = ["tune", "--conv", "8,64,4,64,3,1,1", "--device", "cuda", "--database", str(tmp_path)]
    assert main(arguments) == 1
    assert capsys.readouterr().err == "device-missing: no GPU: buy one\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_every_candidate_is_wrong_where_the_driver_executes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(build_recorder(tmp_path).parent))
    tuning = tune(small_layer(), database=tmp_path, trials=1, device="cuda")
    assert (tuning.best, len(tuning.wrong)) == (None, 2)


def test_where_everything_is_wrong_there_is_no_record(tmp_path: Path) -> None:
    def wrong(scheduled: object) -> PtxKernel:
        kernel = compile_candidate(scheduled)
        return replace(kernel, text=swap_fragment_registers(kernel.text))

    layer = small_layer("int8")
    tuning = tune(layer, database=tmp_path, trials=1, build=wrong)
    assert (tuning.best, len(tuning.wrong)) == (None, 2)
    assert Records(tmp_path).find(layer.function) is None


def test_a_candidate_that_does_not_compile_is_no_end(tmp_path: Path) -> None:
    def narrow(scheduled: object) -> PtxKernel:
        if UNROLLED in str(scheduled):
            raise RuntimeError("no loop of 1500 steps")
        return compile_candidate(scheduled)

    tuning = tune(small_layer("int8"), database=tmp_path, trials=3, seed=2, build=narrow)
    failed = [trial for trial in tuning.trials if trial.failure]
    assert failed
    assert {trial.failure for trial in failed} == {"RuntimeError: no loop of 1500 steps"}
    assert tuning.wrong == []
    assert tuning.best is not None


def test_a_run_takes_the_records_and_says_so(tmp_path: Path) -> None:
    digits = load("digits", batch=8)
    module = quantize(digits.module, digits.calibration, scheme="fixed")
    transformed = TensorCoreFlow(tuning="").transform(module)
    assert {layer.schedule for layer in transformed.report} == {"default"}
    conv2 = next(layer for layer in network_layers(module) if layer.name == transformed.report[1].kernel)
    plain = default_tiling(problem_of(conv2.function))
    other = replace(plain, chunk=plain.chunk // 2)
    workload = records.workload(conv2.function)
    schedule = Schedule(workload)
    with_tiling(schedule, problem_of(conv2.function), other)
    keep(schedule, conv2, tmp_path, cost=1.0)

    flow = TensorCoreFlow(tuning=tmp_path)
    again = flow.transform(module)
    assert [layer.schedule for layer in again.report] == [
        "tuned, cost 1" if layer.kernel == conv2.name else "default" for layer in again.report
    ]
    default_files = TensorCoreFlow(tuning="").machine_files(transformed)
    files = flow.machine_files(again)
    assert {name for name in files if files[name] != default_files[name]} == {f"{conv2.name}.ptx"}
    verdict = run(module, quantize_input(module, digits.images), "tensorcore", tuning=tmp_path)
    assert verdict.exact
    assert [layer.schedule for layer in verdict.layers] == [layer.schedule for layer in again.report]


def keep(schedule: Schedule, layer: TunedLayer, folder: Path, *, cost: float) -> None:
    from tvm.s_tir import meta_schedule

    database = open_database(folder)
    module = records.workload(layer.function)
    database.commit_tuning_record(
        meta_schedule.database.TuningRecord(
            schedule.trace,
            database.commit_workload(module),
            [cost],
            records.target(),
            meta_schedule.arg_info.ArgInfo.from_entry_func(module, remove_preproc=True),
        )
    )


def test_every_kernel_of_a_network_has_its_operands_and_result() -> None:
    digits = load("digits", batch=8)
    module = quantize(digits.module, digits.calibration, scheme="fixed")
    layers = network_layers(module)
    kernels = packed_kernels(TensorCoreFlow(tuning="").transform(module))
    assert [layer.name for layer in layers] == [kernel.name for kernel in kernels]
    for layer, kernel in zip(layers, kernels, strict=True):
        assert structural_equal(layer.function, primfunc(kernel))
        assert np.any(layer.expected)


def test_the_folder_of_records(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert records.default_folder() is None
    monkeypatch.setenv("BITEXACT_TUNING", str(tmp_path))
    assert records.default_folder() == tmp_path
    monkeypatch.delenv("BITEXACT_TUNING")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert records.default_folder() == Path("/cache/bitexact/tuning")


def test_a_folder_without_records_stays_as_it_is(tmp_path: Path) -> None:
    assert Records(tmp_path).find(small_layer().function) is None
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_database_is_a_build_error(tmp_path: Path) -> None:
    (tmp_path / records.WORKLOADS).write_text("what\n")
    (tmp_path / records.RECORDS).write_text("what\n")
    digits = load("digits", batch=8)
    module = quantize(digits.module, digits.calibration, scheme="fixed")
    verdict = run(module, quantize_input(module, digits.images), "tensorcore", tuning=tmp_path)
    assert verdict.verdict == "build-error"
    assert f"tuning database {tmp_path} cannot be read" in (verdict.reason or "")


def test_the_command_prints_the_gain_and_keeps_the_records(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report = tmp_path / "tuning.json"
    sizes = ",".join(map(str, SMALL))
    arguments = ["tune", "--conv", sizes, "--dtype", "int4", "--trials", "2", "--seed", "5"]
    assert main([*arguments, "--database", str(tmp_path / "records"), "--json", str(report)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    (row,) = [line for line in captured.out.splitlines() if line.startswith(f"int4 {sizes}")]
    assert row.split()[-1] == "0"
    content = json.loads(report.read_text())
    assert set(content) == {"versions", "seed", "kernels"}
    (kernel,) = content["kernels"]
    assert (content["seed"], len(kernel["trials"])) == (5, 2)
    assert kernel["best"]["cost"] <= kernel["default"]["cost"]
    assert Records(tmp_path / "records").find(small_layer().function) is not None


def test_a_set_is_tuned_by_its_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ConvolutionSet("small", (("int4", SMALL), ("int8", SMALL)))  # type: ignore[arg-type]
    monkeypatch.setitem(SETS, "small", small)
    assert [layer.name.split()[0] for layer in layers_of_set("small")] == ["int4", "int8"]
    assert main(["tune", "small", "--dtype", "int8", "--trials", "1", "--database", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    sizes = ",".join(map(str, SMALL))
    assert [line.split()[0] for line in printed.splitlines() if sizes in line] == ["int8"]
    assert Records(tmp_path).find(small_layer("int8").function) is not None


def test_the_set_of_the_hwnc_test() -> None:
    assert [dtype for dtype, _ in SETS["hwnc"].convolutions] == ["int4"] * 10 + ["int8"]
    assert {
        f"{dtype}, {', '.join(map(str, sizes[1:]))}" for dtype, sizes in SETS["hwnc"].convolutions
    } == set(WORKLOADS)
    names = [layer.name for layer in layers_of_set("hwnc", dtype="int8")]
    assert names == ["int8 8,64,56,64,3,1,1"]


@pytest.mark.slow
def test_the_command_reports_a_wrong_candidate(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(layer: TunedLayer, **options: object) -> Tuning:
        return tune(layer, build=sabotaged, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("bench.tuning.search.tune", wrong)
    arguments = ["tune", "--conv", "8,64,4,64,3,1,1", "--trials", "3", "--seed", "2"]
    assert main([*arguments, "--database", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "int8 8,64,4,64,3,1,1: WRONG: " in printed
    assert "auto_unroll_max_step=1500" in printed


USAGE_ERRORS = {
    "nothing": ([], "name a workload, or one convolution with --conv N,IC,H,OC,k,s,p"),
    "both": (["digits", "--conv", "8,64,4,64,3,1,1"], "name a workload, or one convolution"),
    "six-numbers": (["--conv", "8,64,4,64,3,1"], "'8,64,4,64,3,1' is not N,IC,H,OC,k,s,p in whole numbers"),
    "illegal-batch": (
        ["--conv", "7,64,4,64,3,1,1"],
        "N = 7 is not a positive multiple of 8, as int8 requires",
    ),
    "illegal-channels": (
        ["--conv", "8,16,4,64,3,1,1", "--dtype", "int4"],
        "IC = 16 is not a positive multiple of 32, as int4 requires",
    ),
    "large-kernel": (["--conv", "8,64,4,64,9,1,1"], "a kernel of 9 is larger than the padded image of 6"),
    "stride-0": (["--conv", "8,64,4,64,3,0,1"], "kernel 3, stride 0, padding 1: at least 1, 1, 0 are needed"),
    "batch-of-conv": (["--conv", "8,64,4,64,3,1,1", "--batch", "8"], "--batch and --image are of a network"),
    "image-of-set": (["hwnc", "--image", "32"], "--batch and --image are of a network"),
    "dtype": (["digits", "--dtype", "float16"], "invalid choice: 'float16' (choose from 'int8', 'int4')"),
    "trials": (["digits", "--trials", "0"], "'0' is not a whole number of trials above 0"),
    "workload": (["mnist"], "unknown workload 'mnist': one of digits"),
    "set": (["hwcn"], "yolo_head, or the set hwnc"),
    "json-folder": (["digits", "--json", "/nowhere/t.json"], "--json: there is no folder /nowhere"),
    "no-folder": (["digits"], "BITEXACT_TUNING is empty: name a folder for the records with --database DIR"),
    "file-for-folder": (
        ["--conv", "8,64,4,64,3,1,1", "--database", __file__],
        f"tuning database {__file__} cannot be",
    ),
}


@pytest.mark.parametrize("case", USAGE_ERRORS)
def test_a_usage_error_is_one_line_and_status_2(
    case: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments, message = USAGE_ERRORS[case]
    if case != "no-folder":
        monkeypatch.setenv("BITEXACT_TUNING", str(tmp_path))
    try:
        status: int | str | None = main(["tune", *arguments])
    except SystemExit as end:
        status = end.code
    captured = capsys.readouterr()
    assert (status, captured.out, captured.err.count("\n")) == (2, "", 1)
    assert captured.err.startswith("bitexact tune: ")
    assert message in captured.err


def test_no_trials_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 trials: at least 1 is needed"):
        tune(small_layer(), database=tmp_path, trials=0)


KEPT = json.loads(Path(__file__).with_name("tuned_hwnc.json").read_text())
"""The best tilings that `bitexact tune hwnc` found, with what they cost."""
QUICK = ("int4 8,64,56,64,1,2,0",)


def test_every_convolution_of_the_hwnc_test_has_been_tuned() -> None:
    assert list(KEPT) == [
        f"{dtype} {','.join(map(str, sizes))}" for dtype, sizes in SETS["hwnc"].convolutions
    ]
    assert all(kept["cost"] < kept["default_cost"] for kept in KEPT.values())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in KEPT]
)
def test_tuned_convolutions_are_exact_and_keep_what_is_asked_of_them(name: str) -> None:
    dtype, sizes = name.split()
    layer = convolution_layer(*map(int, sizes.split(",")), dtype=dtype)  # type: ignore[misc]
    knobs = KEPT[name]["tiling"]
    tiling = Tiling(**knobs | {"reorder_inner": tuple(knobs["reorder_inner"])})
    assert is_acceptable(tiling, problem_of(layer.function))
    measured = measure(compile_candidate(schedule_conv2d(layer.function, tiling=tiling)), layer)
    assert measured.failure is None
    assert instructions(measured.counters) <= 4
    assert traffic(measured.counters) <= 2
    assert conflicts(measured.counters) <= 0.05
    # Another NVRTC may count a little otherwise.
    assert cost_of(measured.counters) == pytest.approx(KEPT[name]["cost"], rel=0.05)


@pytest.mark.slow
def test_evolution_finds_something_cheaper_than_the_default(tmp_path: Path) -> None:
    tuning = tune(convolution_layer(8, 128, 28, 256, 1, 2, 0, dtype="int4"), database=tmp_path, trials=8)
    assert tuning.best is not None
    assert (tuning.best.cost or 0) < (tuning.default.cost or 0)
    assert tuning.wrong == []
