"""The bench can fail: every fault ends in a located mismatch, and one that finds nothing is an error."""

import json
from pathlib import Path

import pytest

from bench.cli import main
from bench.faults import FAULTS, Fault, fault_named
from bench.faults.graph import drop_padding_row, shift_by_one, swap_weight_lanes
from bench.faults.machine_code import in_elf, in_ptx, in_vta_programs
from bench.flows.flow import TARGETS
from bench.pipeline import transform
from kernels.faults import FaultNotPlanted
from simulators.hvx import qemu
from tests.bench.integer_graphs import ConvCase, convolution, dense

# One for each target at once; all of them are planted by `make audit` as well, in a smaller batch.
AT_ONCE = ("tensorcore-unsigned-weights", "hexagon-drop-accumulate", "vta-shift-by-one")
PLANTED = [
    pytest.param(fault, id=name, marks=[pytest.mark.slow] * (name not in AT_ONCE))
    for name, fault in FAULTS.items()
]


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_a_located_mismatch(
    fault: Fault, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if fault.target == "hexagon" and qemu.available():
        pytest.skip(str(qemu.available()))
    report = tmp_path / "report.json"
    # In the whole batch every kernel has the form in which the faults of machine code were made.
    assert main(["run", "digits", "--inject", fault.name, "--json", str(report)]) == 1
    (verdict,) = json.loads(report.read_text())["verdicts"]
    assert (verdict["target"], verdict["verdict"], verdict["fault"]) == (fault.target, "mismatch", fault.name)
    mismatch = verdict["mismatch"]
    assert mismatch["binding"]
    assert mismatch["operator"]
    assert set(mismatch["coordinate"]) <= set("NCHW")
    assert mismatch["device"] != mismatch["reference"]
    assert 0 < mismatch["differing"] <= mismatch["elements"]
    assert mismatch["operands"]["data"]
    printed = capsys.readouterr().out
    assert "mismatch between device and transformed graph" in printed
    assert f"device {mismatch['device']}, reference {mismatch['reference']}" in printed


def test_there_are_faults_for_every_target() -> None:
    assert len(FAULTS) >= 8
    for target in TARGETS:
        assert sum(fault.target == target for fault in FAULTS.values()) >= 2
        assert any(fault.machine for fault in FAULTS.values() if fault.target == target)


def test_an_unknown_fault_names_the_valid_ones() -> None:
    with pytest.raises(
        ValueError, match="unknown fault 'nibbles': one of tensorcore-swap-fragment-registers"
    ):
        fault_named("nibbles")


NOTHING_TO_ACT_ON = {
    "no-kernel": (lambda: swap_weight_lanes(dense(1, 4, 4)), "the graph calls no kernel"),
    "no-requantise": (
        lambda: shift_by_one(transform(dense(1, 4, 4), "tensorcore").mod),
        "no bitexact.requantize",
    ),
    "no-padding": (
        lambda: drop_padding_row(transform(convolution(ConvCase(padding=(0, 0, 0, 0))), "tensorcore").mod),
        "pads at the top",
    ),
    "no-ptx": (lambda: in_ptx("unsigned_weights")({}), "the artefact has no .ptx file"),
    "ptx-without-wmma": (lambda: in_ptx("unsigned_weights")({"a.ptx": b".version 8.0"}), "a.ptx: "),
    "no-programs": (lambda: in_vta_programs("shift_by_one")({"x": b""}), "the artefact has no .vta file"),
}


@pytest.mark.parametrize("case", NOTHING_TO_ACT_ON)
def test_a_fault_that_finds_nothing_to_act_on_is_an_error(case: str) -> None:
    plant, message = NOTHING_TO_ACT_ON[case]
    with pytest.raises(FaultNotPlanted, match=message):
        plant()


def test_a_fault_of_machine_code_cannot_be_planted_on_the_host(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "digits", "--batch", "8", "--device", "host", "--inject", "vta-shift-by-one"]
    assert main(arguments) == 1
    assert "could not be planted: vta-shift-by-one changes machine code" in capsys.readouterr().err


def test_a_fault_in_an_elf_needs_an_elf() -> None:
    with pytest.raises(KeyError):
        in_elf("other_signedness")({})


def test_a_fault_that_is_not_detected_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    harmless = Fault("vta-nothing", "vta", "changes nothing", graph=lambda mod: mod)
    monkeypatch.setattr("bench.faults.catalogue.FAULTS", {"vta-nothing": harmless})
    monkeypatch.setattr("bench.faults.FAULTS", {"vta-nothing": harmless})
    assert main(["run", "digits", "--batch", "8", "--device", "host", "--inject", "vta-nothing"]) == 1
    assert "the planted fault vta-nothing was NOT detected" in capsys.readouterr().err
