"""The device ``cuda`` without a GPU: a recorder takes the place of the driver, and shows what it is handed.

What only a GPU can show is in test_cuda_silicon.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import bench
from bench.cli import main
from bench.devices import counters
from bench.devices.cuda.driver import SIGNATURES, Driver
from bench.devices.cuda.gpu import POISON
from bench.devices.cuda.probe import probe
from bench.devices.failure import DeviceFailure
from bench.devices.kernel_process import KernelProcess
from bench.devices.machines import machine_for
from bench.devices.machines.cuda import CudaMachine
from bench.devices.machines.tensorcore import TensorCoreMachine
from bench.flows.flow import flow_for
from bench.machine_files import LAUNCHES
from tests.bench import cuda_outcome
from tests.bench.cuda_recorder import ExecutingRecorder, build_recorder
from tests.bench.integer_graphs import ConvCase, convolution, dense
from tests.bench.tensorcore_proof import CASES

ROOT = Path(__file__).parents[2]
HARDWARE = "recorder, not a GPU (sm_80), driver of CUDA 12.4"
DATA = np.arange(8 * 16, dtype=np.int8).reshape(8, 16)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_recorder(tmp_path_factory.mktemp("recorder"))


@pytest.fixture
def recorder(library: Path) -> Iterator[ExecutingRecorder]:
    executing = ExecutingRecorder(library)
    yield executing
    executing.close()


@pytest.fixture
def as_driver(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that look for the driver find the recorder."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))


@pytest.fixture
def without_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that look for the driver find what is none."""
    (tmp_path / "libcuda.so.1").write_text("no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """A dense layer's kernel."""
    flow = flow_for("tensorcore")
    return flow.machine_files(bench.transform(dense(8, 16, 32, data_dtype="int8"), "tensorcore"))


@pytest.fixture(scope="module")
def convolution_files() -> dict[str, bytes]:
    flow = flow_for("tensorcore")
    case = ConvCase(batch=9, inputs=5, outputs=35, strides=(2, 1), padding=(0, 1, 2, 2))
    module = convolution(case, scheme="fixed", data_dtype="int8")
    return flow.machine_files(bench.transform(module, "tensorcore"))


def operands(files: dict[str, bytes], kernel: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Arrays for a kernel of the files: random inputs, and an output that holds something else."""
    launch = json.loads(files[LAUNCHES])[kernel]
    random = np.random.default_rng(7)
    known = {argument["name"]: argument for argument in launch["arguments"]}
    arrays = []
    for name in launch["parameters"]:
        dtype = np.dtype(known[name]["dtype"])
        ends = np.iinfo(dtype)
        least, greatest = (-100, 100) if dtype == np.int32 else (ends.min, ends.max)
        if name == "shift":
            least, greatest = 1, 31
        arrays.append(random.integers(least, greatest + 1, known[name]["shape"]).astype(dtype))
    return arrays[:-1], arrays[-1]


def the_kernel(files: dict[str, bytes]) -> str:
    return next(iter(json.loads(files[LAUNCHES])))


def edited(files: dict[str, bytes], change: tuple[str, str]) -> dict[str, bytes]:
    name = f"{the_kernel(files)}.ptx"
    text = files[name].decode().replace(*change)
    assert text != files[name].decode()
    return files | {name: text.encode()}


@pytest.mark.parametrize("graph", ["files", "convolution_files"])
def test_kernels_get_their_tensors_and_their_grid(
    graph: str, recorder: ExecutingRecorder, request: pytest.FixtureRequest
) -> None:
    """Executed by the PTX machine behind the recorder, kernels give what they give on the PTX machine."""
    content = request.getfixturevalue(graph)
    machine, simulator = CudaMachine(content, driver=recorder.driver), TensorCoreMachine(content)
    for kernel in json.loads(content[LAUNCHES]):
        inputs, expected = operands(content, kernel)
        output = expected.copy()
        simulator.call(kernel, [*inputs, expected])
        report = machine.call(kernel, [*inputs, output])
        np.testing.assert_array_equal(output, expected)
        assert np.any(output)
        assert report.findings == []
        in_code = content[f"{kernel}.ptx"].count(b"wmma.mma.sync")
        assert report.counters == {counters.IN_CODE: in_code, "device_nanoseconds": 12500}
        assert in_code > 0
    assert machine.hardware == HARDWARE
    assert recorder.live_allocations == 0
    machine.close()
    machine.close()


def test_arrays_that_are_not_contiguous_are_taken_as_they_look(
    files: dict[str, bytes], recorder: ExecutingRecorder
) -> None:
    kernel = the_kernel(files)
    inputs, output = operands(files, kernel)
    expected = output.copy()
    machine = CudaMachine(files, driver=recorder.driver)
    machine.call(kernel, [*inputs, expected])
    machine.call(kernel, [*(np.asfortranarray(array) for array in inputs), output])
    np.testing.assert_array_equal(output, expected)
    with pytest.raises(ValueError, match="output of a kernel must be contiguous"):
        machine.call(kernel, [*inputs, np.asfortranarray(output)])


def test_what_a_kernel_leaves_unwritten_is_poison(files: dict[str, bytes], library: Path) -> None:
    kernel = the_kernel(files)
    inputs, output = operands(files, kernel)
    CudaMachine(files, driver=Driver(str(library))).call(kernel, [*inputs, output])
    assert set(output.tobytes()) == {POISON}


def test_a_write_beside_a_tensor_is_a_finding(
    files: dict[str, bytes], recorder: ExecutingRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECORDER_SPILL", "3")
    kernel = the_kernel(files)
    inputs, output = operands(files, kernel)
    report = CudaMachine(files, driver=recorder.driver).call(kernel, [*inputs, output])
    parameters = json.loads(files[LAUNCHES])[kernel]["parameters"]
    assert [(f.kind, f.severity) for f in report.findings] == [("out-of-bounds", "error")] * len(parameters)
    assert report.findings[-1].message == "the kernel wrote beside out: 3 bytes behind it"


def test_the_driver_is_asked_in_this_order(
    files: dict[str, bytes], library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECORDER_LOG", str(tmp_path / "log"))
    kernel = the_kernel(files)
    launches = json.loads(files[LAUNCHES])
    launches[kernel]["dynamic_shared"] = 65536
    machine = CudaMachine(files | {LAUNCHES: json.dumps(launches).encode()}, driver=Driver(str(library)))
    inputs, output = operands(files, kernel)
    machine.call(kernel, [*inputs, output])
    machine.close()
    log = (tmp_path / "log").read_text().splitlines()
    named = [re.sub(r"\(.*", "", line) for line in log]
    launched = named.index("cuLaunchKernel")
    assert named[:4] == ["cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName"]
    assert named[launched - 1 : launched + 4] == [
        "cuEventRecord", "cuLaunchKernel", "cuEventRecord", "cuCtxSynchronize", "cuEventElapsedTime",
    ]  # fmt: skip
    assert named[-2:] == ["cuModuleUnload", "cuDevicePrimaryCtxRelease_v2"]
    assert "cuFuncSetAttribute(8, 65536)" in log
    grid, block = (" ".join(map(str, launches[kernel][key])) for key in ("grid", "block"))
    assert f"cuLaunchKernel({launches[kernel]['entry']}, grid {grid}, block {block}, 65536)" in log
    allocated = [int(line[len("cuMemAlloc_v2(") : -1]) for line in log if line.startswith("cuMemAlloc_v2")]
    assert allocated == [array.nbytes + 512 for array in (*inputs, output)]
    # The output is not copied there: nothing of the host's array can pass for a result.
    assert named.count("cuMemcpyHtoD_v2") == len(inputs)


AT_LOAD = ("cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuModuleLoadDataEx", "cuModuleGetFunction")
AT_CALL = (
    "cuMemAlloc_v2", "cuMemsetD8_v2", "cuMemcpyHtoD_v2", "cuEventCreate", "cuEventRecord", "cuLaunchKernel",
    "cuCtxSynchronize", "cuEventElapsedTime", "cuMemcpyDtoH_v2",
)  # fmt: skip
AT_START = (
    "cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute",
    "cuDriverGetVersion"
)  # fmt: skip
AT_END = ("cuMemFree_v2", "cuEventDestroy_v2", "cuModuleUnload", "cuDevicePrimaryCtxRelease_v2")


def test_every_function_of_the_binding_is_failed_below() -> None:
    elsewhere = {"cuFuncSetAttribute", "cuGetErrorName", "cuGetErrorString"}
    assert {*AT_START, *AT_LOAD, *AT_CALL, *AT_END} == set(SIGNATURES) - elsewhere


@pytest.mark.parametrize("function", AT_START)
def test_a_driver_that_does_not_start_is_a_missing_device(
    function: str, files: dict[str, bytes], library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECORDER_FAIL", f"{function}:999")
    with pytest.raises(
        DeviceFailure, match=rf"{function}: error 999: no description.*--device sim"
    ) as caught:
        CudaMachine(files, driver=Driver(str(library)))
    assert caught.value.verdict == "device-missing"


@pytest.mark.parametrize("function", AT_LOAD)
def test_a_failure_as_a_kernel_is_loaded_is_a_crash(
    function: str, files: dict[str, bytes], library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECORDER_FAIL", f"{function}:2")
    with pytest.raises(DeviceFailure, match=f"{function}: CUDA_ERROR_OUT_OF_MEMORY: out of memory") as caught:
        CudaMachine(files, driver=Driver(str(library)))
    assert caught.value.verdict == "crash"
    assert HARDWARE in str(caught.value)


@pytest.mark.parametrize("from_call", [1, 2])
@pytest.mark.parametrize("function", AT_CALL)
def test_a_failure_as_a_kernel_runs_is_a_crash_and_gives_memory_back(
    function: str, from_call: int, files: dict[str, bytes], recorder: ExecutingRecorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    machine = CudaMachine(files, driver=recorder.driver)
    kernel = the_kernel(files)
    inputs, output = operands(files, kernel)
    recorder.expect_failures_from_now()
    monkeypatch.setenv("RECORDER_FAIL", f"{function}:700:{from_call}")
    said = f"{function}: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access"
    failing = pytest.raises(DeviceFailure, match=said)
    if from_call > 1:
        with contextlib.suppress(DeviceFailure):  # a function that is called twice for one launch
            machine.call(kernel, [*inputs, output])
    with failing as caught:
        machine.call(kernel, [*inputs, output])
    assert caught.value.verdict == "crash"
    assert recorder.live_allocations == 0


@pytest.mark.parametrize("function", AT_END)
def test_a_failure_as_something_is_given_back_changes_nothing(
    function: str, files: dict[str, bytes], recorder: ExecutingRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECORDER_FAIL", f"{function}:700")
    machine = CudaMachine(files, driver=recorder.driver)
    kernel = the_kernel(files)
    inputs, output = operands(files, kernel)
    assert machine.call(kernel, [*inputs, output]).findings == []
    machine.close()


REFUSALS = {
    "malformed": (
        {}, ("wmma.mma.sync", "wmma.mystery.sync"), "crash",
        "CUDA_ERROR_INVALID_PTX.*its log:\nptxas: line 1; error: no instruction 'mystery'",
    ),
    "newer than the driver": (
        {"RECORDER_PTX": "6.5"}, None, "device-missing",
        r"knows neither PTX \d+\.\d+ nor 7\.0: install a newer driver: .*PTX_VERSION",
    ),
    "newer than the GPU": (
        {"RECORDER_FAIL": "cuModuleLoadDataEx:209", "RECORDER_CAPABILITY": "75"}, None, "device-missing",
        r"\(sm_75\).*: the kernels are built for sm_80 and newer",
    ),
    "refused for no known reason": (
        {"RECORDER_FAIL": "cuModuleLoadDataEx:218"}, None, "crash", "CUDA_ERROR_INVALID_PTX",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_ptx_that_the_driver_refuses(
    case: tuple, files: dict[str, bytes], library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, change, verdict, message = case
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    content = edited(files, change) if change else files
    with pytest.raises(DeviceFailure, match=f"(?s){message}") as caught:
        CudaMachine(content, driver=Driver(str(library)))
    assert caught.value.verdict == verdict


def test_ptx_newer_than_the_driver_is_read_as_an_older_one(
    files: dict[str, bytes], recorder: ExecutingRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drivers are older than compilers; what the kernels use is as old as sm_80."""
    monkeypatch.setenv("RECORDER_PTX", "8.4")
    kernel = the_kernel(files)
    inputs, expected = operands(files, kernel)
    output = expected.copy()
    TensorCoreMachine(files).call(kernel, [*inputs, expected])
    machine = CudaMachine(files, driver=recorder.driver)
    machine.call(kernel, [*inputs, output])
    np.testing.assert_array_equal(output, expected)
    assert re.fullmatch(re.escape(HARDWARE) + r", PTX \d+\.\d+ read as 7\.0", str(machine.hardware))


def test_a_library_that_is_no_driver_is_said_to_be_none() -> None:
    with pytest.raises(OSError, match=r"libc\.so\.6 is no CUDA driver: .*cuInit"):
        Driver("libc.so.6")


@pytest.mark.usefixtures("as_driver")
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (("RECORDER_CRASH", "cuInit"), r"(?s)killed by SIGSEGV\): see nvidia-smi.*told to crash in cuInit"),
        (("RECORDER_HANG", "cuInit"), "did not answer within 2 s"),
        (("RECORDER_NO_DEVICE", "1"), "finds no GPU .*CUDA_VISIBLE_DEVICES"),
        (("RECORDER_FAIL", "cuInit:100"), "finds no GPU .cuInit: CUDA_ERROR_NO_DEVICE"),
        (("RECORDER_FAIL", "cuInit:803"), "does not start .cuInit: error 803.*reinstall"),
    ],
    ids=["crash", "hang", "no device", "error: no device", "error: mismatch"],
)
def test_why_there_is_no_gpu(setting: tuple[str, str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*setting)
    found = probe(seconds=2)
    assert found.hardware is None
    assert re.search(message, str(found.missing))
    assert "or use --device sim" in str(found.missing)


@pytest.mark.usefixtures("as_driver")
def test_a_gpu_that_is_there_is_named() -> None:
    assert vars(probe()) == {"hardware": HARDWARE, "missing": None}
    assert machine_for("tensorcore", "cuda").missing() is None


@pytest.mark.usefixtures("as_driver")
@pytest.mark.parametrize(
    ("setting", "verdict", "message"),
    [
        (
            ("RECORDER_CRASH", "cuLaunchKernel"),
            "crash",
            "SIGSEGV.*\nrecorder: told to crash in cuLaunchKernel",
        ),
        (("RECORDER_HANG", "cuCtxSynchronize"), "timeout", "no result after 3 s"),
        (("RECORDER_FAIL", "cuCtxSynchronize:700"), "crash", "cuCtxSynchronize: CUDA_ERROR_ILLEGAL_ADDRESS"),
    ],
    ids=["crash", "hang", "error"],
)
def test_what_a_driver_does_wrong_is_a_verdict(
    setting: tuple[str, str], verdict: str, message: str, files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv(*setting)
    inputs, output = operands(files, the_kernel(files))
    with (
        pytest.raises(DeviceFailure, match=f"(?s){message}") as caught,
        KernelProcess("tensorcore", files, device="cuda", seconds=3) as process,
    ):
        process.call(the_kernel(files), inputs, output)
    assert caught.value.verdict == verdict


@pytest.mark.usefixtures("as_driver")
def test_a_recorder_is_never_exact() -> None:
    """It executes nothing; the verdict names it, and says nothing of instructions that nobody counted."""
    verdict = bench.run(dense(8, 16, 32, data_dtype="int8"), DATA, "tensorcore", "cuda")
    assert verdict.verdict == "mismatch"
    assert verdict.hardware == HARDWARE
    assert [layer.count for layer in verdict.layers] == [None]
    assert verdict.counters[counters.IN_CODE] > 0


@pytest.mark.usefixtures("as_driver")
def test_verify_runs_a_kernel_on_the_device(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    arguments = ["verify", "examples/my_schedule.py", "--target", "tensorcore", "--device", "cuda"]
    assert main([*arguments, "--json", str(report)]) == 1
    (verdict,) = json.loads(report.read_text())["verdicts"]
    assert (verdict["verdict"], verdict["device"], verdict["hardware"]) == ("mismatch", "cuda", HARDWARE)
    assert verdict["layers"][0]["count"] is None
    assert f"ran on {HARDWARE}, which counts no tensor instructions" in capsys.readouterr().out


@pytest.mark.usefixtures("as_driver")
def test_a_kernel_without_tensor_instructions_is_found_in_its_code(files: dict[str, bytes]) -> None:
    name = f"{the_kernel(files)}.ptx"
    plain = re.sub(rb"(?m)^.*wmma\.mma.*$", b"", files[name])
    with KernelProcess("tensorcore", files | {name: plain}, device="cuda") as process:
        inputs, output = operands(files, the_kernel(files))
        report = process.call(the_kernel(files), inputs, output)
    assert counters.none_used(report.counters)
    assert counters.executed(report.counters) is None


@pytest.mark.parametrize("target", ["hexagon", "vta"])
def test_a_gpu_runs_no_other_target(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = f"device cuda is a GPU: it runs the target tensorcore, not {target}"
    with pytest.raises(ValueError, match=message):
        bench.run(dense(8, 16, 32, data_dtype="int8"), DATA, target, "cuda")
    with pytest.raises(ValueError, match=message):
        KernelProcess(target, {}, device="cuda")
    assert main(["run", "digits", "--device", "cuda", "--target", target]) == 2
    assert main(["verify", "examples/my_schedule.py", "--device", "cuda", "--target", target]) == 2
    assert capsys.readouterr().err.count(message) == 2


@pytest.mark.usefixtures("without_driver")
def test_no_driver_is_a_missing_device_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    verdict = bench.run(dense(8, 16, 32, data_dtype="int8"), DATA, "tensorcore", "cuda")
    assert verdict.verdict == "device-missing"
    assert re.fullmatch(r"no CUDA driver \(.*\): install NVIDIA's driver for the GPU, or use --device sim.*",
                        str(verdict.reason))  # fmt: skip
    assert main(["serve", "--device", "cuda", "--port", "0"]) == 1
    assert "bitexact serve: device-missing: no CUDA driver" in capsys.readouterr().err
    assert main(["doctor"]) in (0, 1)
    assert "install NVIDIA's driver" in capsys.readouterr().out


@pytest.mark.usefixtures("as_driver")
def test_a_server_executes_kernels_on_its_gpu() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", "serve", "--port", "0", "--device", "cuda"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        match = re.fullmatch(r"serving (rpc://127\.0\.0\.1:\d+)\n", process.stdout.readline())
        assert match
        verdict = bench.run(dense(8, 16, 32, data_dtype="int8"), DATA, "tensorcore", match[1])
        assert (verdict.verdict, verdict.hardware) == ("mismatch", HARDWARE)
        other = bench.run(dense(8, 16, 32, scheme="pow2", data_dtype="int8"), DATA, "vta", match[1])
        assert other.verdict == "device-missing"
        assert "it runs the target tensorcore, not vta" in str(other.reason)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)


@pytest.mark.usefixtures("as_driver")
def test_the_outcome_is_kept_with_the_name_of_the_hardware(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "wmma.m8n8k32 int4·int4"
    assert cuda_outcome.main(["--folder", str(tmp_path)], {name: CASES[name]}) == 1
    (path,) = tmp_path.iterdir()
    assert capsys.readouterr().out == f"{path}\n"
    text = path.read_text()
    assert text.startswith(f"# {HARDWARE}\n\n0 of 1 exact, ")
    assert re.search(rf"\| {name} +\| mismatch +\| 12\.5 ", text)


@pytest.mark.usefixtures("without_driver")
def test_no_outcome_is_written_without_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cuda_outcome.main(["--folder", str(tmp_path / "docs")]) == 1
    assert "cuda_outcome: no CUDA driver" in capsys.readouterr().err
    assert not (tmp_path / "docs").exists()
