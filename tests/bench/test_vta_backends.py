"""`--profile`: the device of the target vta as one of VTA's backends, or all of them."""

import numpy as np
import pytest

import bench
from bench.cli import main
from bench.devices.machines.vta import VtaMachine
from bench.machine_files import VTA_PROFILE
from kernels.vta import dense
from tests.bench.test_pipeline import graph

# Two blocks of out channels, where HLS needs three between two writes of the same accumulator.
PROGRAM = dense((2, 2, 1, 16), (2, 2, 16, 16), epilogue=[("shr", 16), ("min", 127), ("max", -128)])


def call(profile: str | None):
    files = {"layer.vta": PROGRAM.to_bytes()}
    if profile:
        files[VTA_PROFILE] = profile.encode()
    rng = np.random.default_rng(0)
    inputs = [rng.integers(-128, 128, each.shape).astype(each.dtype) for each in PROGRAM.arguments]
    out = np.zeros(PROGRAM.outputs[0].shape, np.int8)
    report = VtaMachine(files).call("layer", [*inputs, out])
    return out, report


def test_without_a_profile_the_machine_is_the_functional_simulator():
    out, report = call(None)
    same, again = call("fsim")
    np.testing.assert_array_equal(out, same)
    assert out.any()
    assert report.counters["estimated_cycles"] > report.counters["gemm_counter"] > 0
    assert report.findings == again.findings == []


def test_one_profile_gives_that_backend_s_result():
    out, report = call("hls")
    assert (out != call(None)[0]).any(), "a shift by 16 is one to the left"
    assert "backend-dependent" in {each.kind for each in report.findings}


def test_all_profiles_give_the_functional_simulator_s_result_and_say_who_differs():
    out, report = call("all")
    np.testing.assert_array_equal(out, call(None)[0])
    assert {(each.kind, each.severity) for each in report.findings} == {("backend-dependent", "warning")}
    assert {each.where.split(",")[0] for each in report.findings} == {"hls"}
    assert "elements of out are not those of fsim" in report.findings[0].message
    assert report.counters == call(None)[1].counters


def test_a_run_on_all_profiles_is_exact_with_warnings():
    module, data = graph("vta")
    verdict = bench.run(module, data, "vta", profile="all")
    assert verdict.verdict == "exact"
    assert all(each.severity == "warning" for each in verdict.findings)


def test_a_profile_is_of_vta_s_machine(capsys: pytest.CaptureFixture[str]):
    module, data = graph("vta")
    with pytest.raises(ValueError, match="a profile is of VTA's machine, and this is vta on host"):
        bench.run(module, data, "vta", device="host", profile="hls")
    assert main(["run", "digits", "--profile", "all"]) == 2
    assert "--profile is of VTA's machine: --target vta" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["run", "digits", "--target", "vta", "--profile", "vivado"])
    assert "unknown profile 'vivado': one of fsim, hls, chisel, opencl, vtapp, all" in capsys.readouterr().err
