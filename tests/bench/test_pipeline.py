"""A run ends in the verdict that it deserves, on every target and device."""

from dataclasses import replace

import numpy as np
import pytest
import tvm

import bench
from bench.compare.verdict import VERDICTS, Verdict
from bench.devices.execution import Execution
from bench.faults import FAULTS
from bench.flows.flow import flow_for
from bench.lowering import BuildError
from bench.pipeline import compare, why_vacuous
from simulators.hvx import qemu
from simulators.report import Finding
from tests.bench.integer_graphs import ConvCase, convolution, dense, full_range

TARGETS = ("tensorcore", "hexagon", "vta")
CASE = ConvCase(batch=9, inputs=5, outputs=35, strides=(2, 1), padding=(0, 1, 2, 2))


def graph(target: str) -> tuple[tvm.IRModule, np.ndarray]:
    flow = flow_for(target)
    module = convolution(CASE, scheme=flow.scheme, data_dtype=flow.data_dtype)
    shape = (CASE.batch, CASE.inputs, CASE.size, CASE.size)
    return module, full_range(np.random.default_rng(5), shape, flow.data_dtype)


@pytest.mark.parametrize("device", ["host", "sim"])
@pytest.mark.parametrize("target", TARGETS)
def test_full_range_convolutions_are_exact(target: str, device: str) -> None:
    if (target, device) == ("hexagon", "sim") and qemu.available():
        pytest.skip(str(qemu.available()))
    verdict = bench.run(*graph(target), target, device)
    assert (verdict.verdict, verdict.reason, verdict.mismatch) == ("exact", None, None)
    assert [layer.verdict for layer in verdict.layers] == ["exact", "exact"]
    if device == "sim":
        assert all(layer.count for layer in verdict.layers)
        assert verdict.tensor_instructions == sum(layer.count or 0 for layer in verdict.layers)


def test_wrong_inputs_are_an_error() -> None:
    module, data = graph("vta")
    with pytest.raises(ValueError, match="data"):
        bench.run(module, data[:1], "vta", "host")


@pytest.mark.parametrize(
    ("target", "device", "message"),
    [
        ("gpu", "sim", "unknown target 'gpu': one of tensorcore, hexagon, vta"),
        ("vta", "board", "unknown device 'board': one of host, sim, cuda, FILE.py:CLASS, rpc://HOST:PORT"),
        ("vta", "rpc://nowhere", "unknown device 'rpc://nowhere'"),
        ("vta", "rpc://host:port", "unknown device 'rpc://host:port'"),
    ],
)
def test_unknown_names_are_errors_that_list_the_valid_ones(target: str, device: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bench.run(*graph("vta"), target, device)


def test_a_fault_of_another_target_is_an_error() -> None:
    with pytest.raises(ValueError, match="is one of hexagon, not of vta"):
        bench.run(*graph("vta"), "vta", "host", fault=FAULTS["hexagon-shift-by-one"])


def test_what_the_target_cannot_take_is_unsupported_with_the_reason() -> None:
    verdict = bench.run(dense(2, 4, 4), np.ones((2, 4), np.int8), "vta", "host")
    assert verdict.verdict == "unsupported"
    assert "its int32 result is used" in str(verdict.reason)


def test_a_kernel_that_cannot_be_built_is_a_build_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BuildError("NVRTC says no")

    monkeypatch.setattr("bench.flows.tensorcore.compile_ptx", refuse)
    verdict = bench.run(*graph("tensorcore"), "tensorcore")
    assert (verdict.verdict, verdict.reason) == ("build-error", "NVRTC says no")


def test_a_compiler_that_fails_is_a_build_error_with_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("internal error")

    monkeypatch.setattr("bench.flows.tensorcore.compile_ptx", crash)
    verdict = bench.run(*graph("tensorcore"), "tensorcore")
    assert (verdict.verdict, verdict.reason) == ("build-error", "RuntimeError: internal error")


def test_all_zeros_are_no_proof() -> None:
    module, data = graph("vta")
    zero = dense(2, 4, 4, scheme="pow2")
    assert bench.run(zero, full_range(np.random.default_rng(0), (2, 4), "int8"), "vta", "host").exact
    del module, data
    quiet = _without_bias(4)
    verdict = bench.run(quiet, np.zeros((2, 4), np.int8), "tensorcore", "host")
    assert verdict.verdict == "build-error"
    assert "every element of dense is zero, so nothing was tested" in str(verdict.reason)


def _without_bias(units: int) -> tvm.IRModule:
    from tvm import relax

    from tests.bench.integer_graphs import module_of

    weight = np.ones((4, units), np.int8)
    return module_of(
        {"data": ((2, 4), "int8")},
        lambda emit, data: emit("dense", relax.op.matmul(data, relax.const(weight), out_dtype="int32")),
    )


class TestJudgement:
    """What the pipeline makes of what a device gave back."""

    def judged(
        self, *, counters: dict[str, dict[str, int]] | None = None, findings: list[Finding] | None = None
    ) -> Verdict:
        module = dense(8, 16, 32)
        data = full_range(np.random.default_rng(0), (8, 16), "int8")
        transformed = bench.transform(module, "tensorcore")
        from bench.evaluate import evaluate_all

        reference = evaluate_all(transformed.mod, data)
        verdict = Verdict("w", "tensorcore", "sim", "exact")
        from bench.compare.verdict import LayerVerdict

        verdict.layers = [LayerVerdict("dense", "dense", "", "wmma.mma m8n32k16 s8")]
        execution = Execution(
            outputs=dict(reference),
            counters=counters or {"dense_kernel": {"tensor_instructions": 1}},
            findings={"dense_kernel": findings or []},
        )
        compare(verdict, transformed, execution, reference)
        return verdict

    def test_agreement_is_exact(self) -> None:
        assert self.judged().exact

    def test_an_error_that_the_machine_found_is_a_hazard(self) -> None:
        verdict = self.judged(findings=[Finding("race", "error", "line 7", "two threads")])
        assert (verdict.verdict, len(verdict.findings)) == ("hazard", 1)
        assert verdict.layers[0].errors == 1

    def test_a_warning_is_shown_and_changes_nothing(self) -> None:
        verdict = self.judged(findings=[Finding("lossy-store", "warning", "instruction 3", "200 became -56")])
        assert (verdict.verdict, len(verdict.findings)) == ("exact", 1)
        assert verdict.layers[0].errors == 0

    @pytest.mark.parametrize("counters", [{"dense_kernel": {"tensor_instructions": 0}}, {"other": {}}])
    def test_a_kernel_without_its_instruction_is_no_proof(self, counters: dict[str, dict[str, int]]) -> None:
        verdict = self.judged(counters=counters)
        assert verdict.verdict == "build-error"
        assert "layer dense executed no wmma.mma m8n32k16 s8" in str(verdict.reason)


def test_a_device_that_does_not_count_is_not_asked_for_counts() -> None:
    module = dense(8, 16, 32)
    data = full_range(np.random.default_rng(0), (8, 16), "int8")
    transformed = bench.transform(module, "tensorcore")
    from bench.evaluate import evaluate_all

    reference = evaluate_all(transformed.mod, data)
    assert why_vacuous(transformed, Execution(outputs=dict(reference)), reference) is None


def test_a_verdict_is_one_of_the_eight() -> None:
    assert len(VERDICTS) == 8
    with pytest.raises(ValueError, match="unknown verdict 'fine': one of exact, mismatch"):
        Verdict("w", "vta", "sim", "fine")
    assert not replace(Verdict("w", "vta", "sim", "exact"), verdict="hazard").exact
