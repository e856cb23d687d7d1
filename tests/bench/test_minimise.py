"""Making a failing case smaller: every step keeps the failure, and the smallest is a bundle of its own."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import relax

import bench
from bench import bundles
from bench.bundles import BundleError
from bench.bundles.signature import Signature, signature
from bench.cli import main
from bench.compare.verdict import Verdict
from bench.evaluate import evaluate
from bench.faults import FAULTS
from bench.fuzz.graphs import Graph
from bench.minimise import edits, reductions
from bench.minimise.bundle import minimise_bundle
from bench.minimise.edits import Extents
from bench.minimise.search import judged_here, minimise
from bench.trace import Trace
from tests.bench.integer_graphs import ConvCase, convolution, dense, full_range

WANTED = Signature("mismatch", "conv2d", "between device and transformed graph")
SATURATED = ConvCase(batch=2, inputs=5, size=6, outputs=7, strides=(2, 1))


def graph(case: ConvCase = SATURATED, seed: int = 0) -> Graph:
    module = convolution(case, scheme="pow2", seed=seed)
    shape = (case.batch, case.inputs, case.size, case.size)
    return Graph(module, {"data": full_range(np.random.default_rng(seed), shape, "int8")})


def judged(found: bool) -> Verdict:
    verdict = Verdict("", "vta", "sim", "crash" if found else "exact", reason="it broke")
    return verdict


BROKEN = signature(judged(True).to_json())


def has(small: Graph, operator: str) -> bool:
    names = [str(getattr(binding.value.op, "name", "")) for binding in edits.bindings(small)]
    return f"relax.{operator}" in names


class TestEdits:
    def test_cut_behind_a_binding(self) -> None:
        whole = graph()
        names = [binding.var.name for binding in edits.bindings(whole)]
        cut = edits.ending_with(whole, edits.bindings(whole)[3].var)
        assert [binding.var.name for binding in edits.bindings(cut)] == names[:4]

    def test_cut_before_a_binding(self) -> None:
        whole = graph()
        (middle,) = [each for each in edits.bindings(whole) if each.var.name == "conv1_requantized"]
        cut = edits.beginning_with(whole, middle.var)
        assert list(cut.inputs) == ["conv1_requantized"]
        np.testing.assert_array_equal(evaluate(cut.module, cut.inputs), evaluate(whole.module, whole.inputs))

    def test_a_step_left_out(self) -> None:
        whole = graph()
        (clip, *_) = [each for each in edits.bindings(whole) if "clipped" in each.var.name]
        cut = edits.without(whole, clip, clip.value.args[0])
        assert len(edits.bindings(cut)) == len(edits.bindings(whole)) - 1

    def test_nothing_left_to_compute(self) -> None:
        whole = graph()
        with pytest.raises(ValueError, match="nothing is left to compute"):
            edits.beginning_with(whole, edits.bindings(whole)[-1].var)

    RESIZED = (
        ("batch", Extents({"data": (1, 5, 6, 6)}, {}, {}), (1, 7, 3, 6)),
        ("input-channels", Extents({"data": (2, 1, 6, 6)}, {}, {}), (2, 7, 3, 6)),
        ("height-and-width", Extents({"data": (2, 5, 3, 2)}, {}, {}), (2, 7, 2, 2)),
        ("kernel", Extents({}, {"conv1": (7, 5, 1, 1)}, {}), (2, 7, 4, 8)),
        ("padding", Extents({}, {}, {"conv1": {"padding": (0, 0, 0, 0)}}), (2, 7, 2, 4)),
        ("strides", Extents({}, {}, {"conv1": {"strides": (1, 1)}}), (2, 7, 6, 6)),
    )

    @pytest.mark.parametrize(
        ("extents", "shape"), [each[1:] for each in RESIZED], ids=[e[0] for e in RESIZED]
    )
    def test_extents(self, extents: Extents, shape: tuple[int, ...]) -> None:
        small = edits.resized(graph(), extents)
        assert evaluate(small.module, small.inputs).shape == shape

    def test_output_channels_take_constants_along(self) -> None:
        whole = graph()
        one = edits.ending_with(whole, edits.bindings(whole)[1].var)
        small = edits.resized(one, Extents({}, {"conv1": (3, 5, 3, 3)}, {}))
        np.testing.assert_array_equal(
            evaluate(small.module, small.inputs), evaluate(one.module, one.inputs)[:, :3]
        )

    def test_groups_are_cut_with_their_channels(self) -> None:
        module = convolution(ConvCase(batch=1, inputs=4, outputs=4, groups=4), scheme="pow2")
        whole = Graph(module, {"data": full_range(np.random.default_rng(0), (1, 4, 6, 6), "int8")})
        whole = edits.ending_with(whole, edits.bindings(whole)[1].var)
        small = edits.resized(whole, Extents({"data": (1, 2, 6, 6)}, {}, {}))
        np.testing.assert_array_equal(
            evaluate(small.module, small.inputs), evaluate(whole.module, whole.inputs)[:, :2]
        )

    def test_dense_layers(self) -> None:
        whole = Graph(
            dense(3, 8, 6, scheme="pow2"), {"data": full_range(np.random.default_rng(0), (3, 8), "int8")}
        )
        small = edits.resized(whole, Extents({"data": (1, 2)}, {"dense": (2, 4)}, {}))
        assert evaluate(small.module, small.inputs).shape == (1, 4)

    def test_a_requantisation_for_each_channel(self) -> None:
        module = convolution(ConvCase(batch=1))
        whole = Graph(module, {"data": full_range(np.random.default_rng(0), (1, 5, 6, 6), "int8")})
        whole = edits.ending_with(whole, edits.bindings(whole)[2].var)
        small = edits.resized(whole, Extents({}, {"conv1": (2, 5, 3, 3)}, {}))
        np.testing.assert_array_equal(
            evaluate(small.module, small.inputs), evaluate(whole.module, whole.inputs)[:, :2]
        )

    def test_values(self) -> None:
        whole = graph()
        zeros = [np.zeros_like(array) for array in edits.constants_of(whole)]
        small = edits.with_values(whole, {"data": np.ones_like(whole.inputs["data"])}, zeros)
        assert not evaluate(small.module, small.inputs).any()

    def test_what_is_smaller(self) -> None:
        whole = graph()
        fewer = edits.ending_with(whole, edits.bindings(whole)[2].var)
        plainer = edits.with_values(
            whole, {"data": np.zeros_like(whole.inputs["data"])}, edits.constants_of(whole)
        )
        assert edits.size(fewer) < edits.size(plainer) < edits.size(whole)


class TestSearch:
    def test_what_is_needed_is_left(self) -> None:
        """A failure that needs a convolution of two channels and a value above 3 leaves just that."""

        def judge(small: Graph) -> Verdict:
            array = next(iter(small.inputs.values()))
            return judged(has(small, "nn.conv2d") and array.shape[1] >= 2 and bool((array > 3).any()))

        found = minimise(graph(), BROKEN, judge, seconds=60)
        assert found.complete
        (data,) = found.graph.inputs.values()
        assert data.shape[:2] == (1, 2)
        assert data.size <= 8
        assert np.count_nonzero(data) == 1
        assert [str(each.value.op.name) for each in edits.bindings(found.graph)] == ["relax.nn.conv2d"]
        assert found.bindings == (len(edits.bindings(graph())), 1)
        assert "nothing smaller fails so" in found.text

    def test_another_failure_is_not_taken(self) -> None:
        other = Verdict("", "vta", "sim", "crash", reason="it broke in another way")
        found = minimise(graph(), BROKEN, lambda _: other, seconds=60)
        assert found.graph.module is not None
        assert found.bindings[0] == found.bindings[1]

    def test_time_ends_it(self) -> None:
        lines: list[str] = []
        found = minimise(graph(), BROKEN, lambda _: judged(True), seconds=0, progress=lines.append)
        assert (found.tried, found.complete) == (0, False)
        assert "time was up" in found.text

    def test_progress(self) -> None:
        lines: list[str] = []
        minimise(graph(), BROKEN, lambda _: judged(False), seconds=60, progress=lines.append)
        assert lines[0].startswith("14 bindings, 4,263 numbers, 1 attempts, ")
        assert lines[-1].endswith(" s left")

    def test_candidates_that_cannot_be_are_passed_over(self) -> None:
        whole = graph()
        made = 0
        for candidate in [*reductions.structure(whole), *reductions.extents(whole)]:
            try:
                small = candidate()
            except Exception:
                continue
            made += 1
            evaluate(small.module, small.inputs)
        assert made > 20

    def test_two_inputs_that_meet_shrink_together(self) -> None:
        one, other = (relax.Var(name, relax.TensorType((4, 6), "int32")) for name in "ab")
        builder = relax.BlockBuilder()
        with builder.function("main", [one, other]):
            with builder.dataflow():
                total = builder.emit_output(builder.emit(relax.op.add(one, other), "total"))
            builder.emit_func_output(total)
        inputs = {name: np.ones((4, 6), np.int32) for name in "ab"}
        found = minimise(
            Graph(builder.finalize(), inputs), BROKEN, lambda small: judged(has(small, "add")), seconds=60
        )
        assert {array.shape for array in found.graph.inputs.values()} == {(1, 1)}

    def test_a_planted_fault_becomes_one_layer_of_a_few_elements(self) -> None:
        judge = judged_here("vta", "sim", fault=FAULTS["vta-shift-by-one"])
        whole = graph(seed=1)
        assert signature(judge(whole).to_json()) == WANTED
        found = minimise(whole, WANTED, judge, seconds=60)
        assert found.bindings[1] <= 4
        assert found.elements[1] <= 30
        assert signature(judge(found.graph).to_json()) == WANTED

    def test_what_the_target_does_not_take_is_a_verdict(self) -> None:
        verdict = judged_here("vta", "sim")(Graph(tvm.IRModule({"main": graph().module["main"]}), {}))
        assert verdict.verdict == "crash"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    whole, trace = graph(seed=1), Trace()
    fault = FAULTS["vta-shift-by-one"]
    verdict = bench.run(whole.module, whole.inputs, "vta", workload="small", fault=fault, trace=trace)
    return bundles.write(tmp_path_factory.mktemp("kept"), verdict, trace, seed=1)


class TestBundle:
    def test_the_smallest_is_a_bundle_beside_it(
        self, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        copy = Path(shutil.copytree(kept, tmp_path / "copy"))
        monkeypatch.chdir(tmp_path)
        assert main(["replay", str(copy), "--minimise", "--seconds", "30"]) == 1
        printed = capsys.readouterr().out
        assert "minimised: 14 bindings to " in printed
        path = tmp_path / "small-minimised-vta-sim-vta-shift-by-one-mismatch"
        assert f"kept in {path.name}" in printed
        held = bundles.read(path)
        assert held.notes["from"] == "copy"
        assert signature(held.verdict) == WANTED
        assert signature(bundles.replay(path).to_json()) == WANTED

    def test_one_that_does_not_fail_when_it_is_compiled_here(self, kept: Path, tmp_path: Path) -> None:
        held = bundles.read(kept)
        with pytest.raises(BundleError, match="compiled here it does not end in hazard"):
            minimise_bundle(replace(held, verdict={**held.verdict, "verdict": "hazard"}), tmp_path, seconds=5)

    def test_a_fault_of_machine_code_is_not_on_the_host(self, kept: Path, tmp_path: Path) -> None:
        held = bundles.read(kept)
        with pytest.raises(BundleError, match="changes machine code, and the device host has none"):
            minimise_bundle(held, tmp_path, device="host", seconds=5)
        with pytest.raises(BundleError, match="changes machine code, and the device host has none"):
            bundles.replay(held, device="host", rebuild=True)

    def test_a_kernel_is_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        trace = Trace(inputs={"data": np.zeros(3, np.int8)})
        path = bundles.write(tmp_path, Verdict("w", "vta", "sim", "crash"), trace)
        assert main(["replay", str(path), "--minimise"]) == 2
        assert "a single kernel's reference is not in its bundle" in capsys.readouterr().err
