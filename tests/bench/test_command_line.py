"""The command line: what it prints, what it writes, its exit status, and its errors of one line."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli import main
from bench.commands.progress import Progress
from bench.commands.run import _sizes
from bench.tools import Tool

ROOT = Path(__file__).parents[2]

USAGE_ERRORS = {
    "workload": (["run", "mnist"], "argument workload: unknown workload 'mnist': one of digits"),
    "target": (["run", "digits", "--target", "gpu"], "unknown target 'gpu': one of tensorcore, hexagon, vta"),
    "one-of-two-targets": (["run", "digits", "--target", "vta,gpu"], "unknown target 'gpu': one of"),
    "device": (
        ["run", "digits", "--device", "fpga"],
        "unknown device 'fpga': one of host, sim, cuda, FILE.py:CLASS, rpc://HOST:PORT",
    ),
    "rpc-without-port": (["run", "digits", "--device", "rpc://there"], "unknown device 'rpc://there'"),
    "batch-0": (["run", "digits", "--batch", "0"], "'0' is not a whole number of images above 0"),
    "batch-text": (["run", "digits", "--batch", "many"], "'many' is not a whole number"),
    "batch-too-large": (["run", "digits", "--batch", "257"], "batch 257 of digits is not in 1..256"),
    "image-text": (["run", "resnet18", "--image", "big"], "'big' is not a whole number of pixels above 0"),
    "image-of-digits": (["run", "digits", "--image", "32"], "digits takes no option 'image', only batch"),
    "image-size": (["run", "resnet18", "--image", "33"], "image 33 of resnet18 is not a multiple of 8"),
    "timeout": (["run", "digits", "--timeout", "-1"], "'-1' is not a number of seconds above 0"),
    "timeout-inf": (["run", "digits", "--timeout", "inf"], "'inf' is not a number of seconds above 0"),
    "scheme": (["run", "digits", "--scheme", "log"], "invalid choice: 'log' (choose from 'fixed', 'pow2')"),
    "fault": (["run", "digits", "--inject", "gremlin"], "unknown fault 'gremlin': one of tensorcore-swap"),
    "fault-of-other-target": (
        ["run", "digits", "--inject", "vta-shift-by-one", "--target", "all"],
        "fault vta-shift-by-one is one of vta: --target vta",
    ),
    "json-folder": (
        ["run", "digits", "--json", "/nowhere/report.json"],
        "--json: there is no folder /nowhere",
    ),
    "command": (["walk"], "invalid choice: 'walk'"),
    "no-command": ([], "required: COMMAND"),
    "port": (["serve", "--port", "70000"], "'70000' is not a port from 0 to 65535"),
    "port-of-a-tracker": (["tracker", "--port", "x"], "'x' is not a port from 0 to 65535"),
    "key-without-tracker": (["serve", "--key", "board"], "--tracker and --key go together"),
    "tracker-without-key": (["serve", "--tracker", "a:1"], "--tracker and --key go together"),
    "tracker": (["serve", "--tracker", "farm", "--key", "a"], "'farm' is not HOST:PORT"),
    "key": (["serve", "--tracker", "a:1", "--key", "a/b"], "'a/b' is no key: a word without blanks, colons"),
    "served-device": (
        ["serve", "--device", "rpc://a:1"],
        "unknown device 'rpc://a:1': one of host, sim",
    ),
    "tracker-device": (["run", "digits", "--device", "tracker://a:1"], "tracker://HOST:PORT/KEY"),
    "jobs": (["run", "digits", "--jobs", "0"], "'0' is not a whole number above 0"),
    "workload-list": (["run", "digits", "nothing"], "unknown workload 'nothing': one of digits"),
    "baseline": (["baseline"], "required: save|compare"),
}


@pytest.mark.parametrize("case", USAGE_ERRORS)
def test_a_usage_error_is_one_line_and_status_2(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = USAGE_ERRORS[case]
    try:
        status: int | str | None = main(arguments)
    except SystemExit as end:
        status = end.code
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("bitexact")
    assert message in captured.err


SIZES = {
    "one": ([["unet_small"]], {"unet_small": 32}),
    "one-of-one-size": ([["digits"]], {"digits": 32}),
    "some": ([["digits"], ["unet_small"], ["digits"]], {"digits": None, "unet_small": 32}),
}


@pytest.mark.parametrize("case", SIZES)
def test_the_size_of_images_is_for_workloads_that_take_one(case: str) -> None:
    """One workload that does not take it is a usage error, which its loading is."""
    named, sizes = SIZES[case]
    assert _sizes(argparse.Namespace(workload=named, image=32)) == sizes


def test_a_run_prints_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "digits", "--device", "host", "--batch", "16"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""  # no progress where standard error is no terminal
    lines = captured.out.splitlines()
    assert lines[0].startswith("digits, 16 images: float accuracy ")
    header = next(line for line in lines if line.startswith("target"))
    for column in ("artefact", "device", "layers tensorised", "tensor instructions", "verdict", "seconds"):
        assert column in header
    for target in ("tensorcore", "hexagon", "vta"):
        (row,) = [line for line in lines if line.startswith(target)]
        assert "5 of 5" in row
        assert "exact" in row


def test_without_labels_the_accuracy_is_a_dash(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    arguments = ["run", "yolo_head", "--image", "16", "--batch", "2", "--target", "hexagon"]
    assert main([*arguments, "--device", "host", "--json", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("yolo_head, 2 images: no labels; cosine of float and integer results 0.9")
    (row,) = [line for line in lines if line.startswith("hexagon")]
    assert row.split()[-2] == "-"
    (verdict,) = json.loads(path.read_text())["verdicts"]
    assert (verdict["accuracy"], verdict["similarity"] > 0.9) == ({}, True)


def test_verbose_shows_every_layer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "digits", "--target", "vta", "--batch", "16", "-v"]) == 0
    printed = capsys.readouterr().out
    (row,) = [line for line in printed.splitlines() if line.startswith("conv2")]
    assert "16x24x8x8 * 40x24x3x3 s2 p1" in row
    assert "GEMM" in row
    assert "13,824" in row  # 16 images, 4x4 pixels, 9 taps, 2 input and 3 output blocks


def test_what_is_not_tensorised_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "digits", "--target", "vta", "--scheme", "fixed", "--batch", "8"]) == 1
    printed = capsys.readouterr().out
    assert "unsupported" in printed
    assert "conv1, conv2, conv3, conv4: bitexact.requantize follows" in printed


def test_json_has_the_promised_keys(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert main(["run", "digits", "--target", "vta", "--batch", "16", "--json", str(report)]) == 0
    content = json.loads(report.read_text())
    assert set(content) == {"format", "complete", "versions", "seed", "verdicts"}
    assert content["complete"]
    assert content["versions"]["apache-tvm"] == "0.27.0.post1"
    (verdict,) = content["verdicts"]
    promised = {
        "workload",
        "target",
        "device",
        "verdict",
        "seconds",
        "counters",
        "layers",
        "mismatch",
        "findings",
    }
    assert promised <= set(verdict)
    assert verdict["counters"]["tensor_instructions"] == sum(layer["count"] for layer in verdict["layers"])
    for layer in verdict["layers"]:
        assert {"name", "operator", "instruction", "count", "why_not", "verdict"} <= set(layer)
    assert set(verdict["accuracy"]) == {"float", "integer"}


def test_a_missing_simulator_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["run", "digits", "--target", "hexagon,vta", "--batch", "8"]) == 1
    printed = capsys.readouterr().out
    assert "hexagon: device-missing: qemu-hexagon not found: apt-get install qemu-user" in printed
    (row,) = [line for line in printed.splitlines() if line.startswith("vta")]
    assert "exact" in row


def test_list_names_everything(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["list", "--json", str(tmp_path / "list.json")]) == 0
    printed = capsys.readouterr().out
    for name in ("digits", "tensorcore", "rpc://HOST:PORT", "NC32n4c", "vta-skip-gemm-uop"):
        assert name in printed
    assert set(json.loads((tmp_path / "list.json").read_text())) == {
        "workloads",
        "sets to tune",
        "targets",
        "devices",
        "kernels",
        "faults",
    }


def test_doctor_tries_every_tool(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    main(["doctor"])
    printed = capsys.readouterr().out
    for tool in ("TVM", "NVRTC", "ziglang", "qemu-hexagon", "GPU"):
        assert tool in printed
    assert "apache-tvm 0.27.0.post1, apache-tvm-ffi 0.1.14.post1" in printed


def test_doctor_says_what_to_type_for_a_missing_tool(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = Tool("qemu-hexagon", False, "not found", "sudo apt-get install qemu-user")
    monkeypatch.setattr("bench.tools.examine", lambda: [missing])
    assert main(["doctor"]) == 1
    assert "sudo apt-get install qemu-user" in capsys.readouterr().out


def test_doctor_knows_the_bad_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import tools

    versions = {"apache-tvm": "0.27.0.post1", "apache-tvm-ffi": "0.1.15.post2"}
    monkeypatch.setattr(tools, "package_version", versions.get)
    tool = tools.examine_tvm()
    assert not tool.found
    assert tool.remedy == "pip install apache-tvm-ffi==0.1.14.post1"


def test_progress_is_silent_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(total=2) as progress:
        progress.of("vta")("building")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_the_module_is_the_command() -> None:
    outcome = subprocess.run(
        [sys.executable, "-m", "bench", "run", "digits", "--target", "nothing"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 2
    assert "Traceback" not in outcome.stderr
