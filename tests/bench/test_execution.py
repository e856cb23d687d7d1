"""What a device does wrong becomes a verdict: it crashes, hangs, is missing, or gives nothing."""

import json
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from bench import transform
from bench.artifact import Artifact
from bench.devices.execution import execute
from bench.devices.failure import DeviceFailure
from bench.devices.machines import hexagon, tensorcore
from bench.flows.flow import flow_for
from bench.lowering import lower_for_host, lower_for_machine
from bench.machine_files import HEXAGON_PROGRAM, HEXAGON_TWIN, LAUNCHES
from kernels.hexagon.machine_code import find_vrmpy
from simulators.hvx import qemu
from tests.bench.integer_graphs import dense
from tests.bench.other_qemu import replace_qemu

DATA = np.arange(8 * 16, dtype=np.int8).reshape(8, 16)
needs_qemu = pytest.mark.skipif(qemu.available() is not None, reason=str(qemu.available()))


@pytest.fixture(scope="module")
def artifacts() -> dict[str, Artifact]:
    """A dense layer for each target's machine, and for the host."""
    built = {}
    for target in ("tensorcore", "hexagon", "vta"):
        flow = flow_for(target)
        module = dense(8, 16, 32, data_dtype=flow.data_dtype, scheme=flow.scheme)
        transformed = transform(module, target)
        built[target] = lower_for_machine(transformed.mod, flow.machine_files(transformed), target=target)
        if target == "tensorcore":
            kernels = flow.plain_kernels(transformed)
            built["host"] = lower_for_host(transformed.mod, kernels, target=target)
    return built


def edited(artifact: Artifact, **changes: object) -> Artifact:
    return Artifact(**{**vars(artifact), **changes})  # type: ignore[arg-type]


def with_machine(artifact: Artifact, name: str, content: bytes) -> Artifact:
    assert name in artifact.machine
    return edited(artifact, machine={**artifact.machine, name: content})


def failure_of(artifact: Artifact, *, device: str = "sim", seconds: float = 60) -> DeviceFailure:
    data = DATA.astype(artifact.inputs[0].dtype)
    with pytest.raises(DeviceFailure) as caught:
        execute(artifact, {"data": data}, device=device, timeout_seconds=seconds)
    return caught.value


@pytest.fixture
def no_process_is_left() -> Iterator[None]:
    """Whatever a run started has ended when it is over."""
    yield
    deadline = time.monotonic() + 5
    while psutil.Process(os.getpid()).children(recursive=True) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.Process(os.getpid()).children(recursive=True)


def test_a_run_gives_every_tensor_and_hears_of_every_kernel(artifacts: dict[str, Artifact]) -> None:
    heard: list[str] = []
    execution = execute(artifacts["tensorcore"], {"data": DATA}, device="sim", on_kernel=heard.append)
    assert heard == ["dense_kernel"]
    assert list(execution.outputs) == [spec.name for spec in artifacts["tensorcore"].outputs]
    assert execution.counters["dense_kernel"]["tensor_instructions"] == 1


@pytest.mark.usefixtures("no_process_is_left")
def test_a_kernel_that_never_ends_is_a_timeout(artifacts: dict[str, Artifact]) -> None:
    name = "dense_kernel.ptx"
    text = artifacts["tensorcore"].machine[name].decode()
    endless = text.replace("ret;", "$forever:\n\tbra $forever;\n\tret;", 1)
    assert endless != text
    failure = failure_of(with_machine(artifacts["tensorcore"], name, endless.encode()), seconds=4)
    assert failure.verdict == "timeout"
    assert "no result after 4 s" in str(failure)


def test_a_kernel_that_never_ends_is_stopped_at_its_budget_with_its_position(
    artifacts: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorcore, "INSTRUCTION_BUDGET", 20_000)
    name = "dense_kernel.ptx"
    text = artifacts["tensorcore"].machine[name].decode()
    text = text.replace("ret;", "$forever:\n\tbra $forever;\n\tret;", 1)
    machine = tensorcore.TensorCoreMachine({**artifacts["tensorcore"].machine, name: text.encode()})
    line = text[: text.index("bra $forever")].count("\n") + 1
    launch = json.loads(artifacts["tensorcore"].machine[LAUNCHES])["dense_kernel"]
    known = {argument["name"]: argument for argument in launch["arguments"]}
    tensors = [np.zeros(known[name]["shape"], known[name]["dtype"]) for name in launch["parameters"]]
    with pytest.raises(
        DeviceFailure, match=rf"PTX line {line} \(bra\): more than 20000 warp instr"
    ) as caught:
        machine.call("dense_kernel", tensors)
    assert caught.value.verdict == "timeout"


def test_a_library_that_is_none_is_a_crash(artifacts: dict[str, Artifact]) -> None:
    failure = failure_of(edited(artifacts["host"], host_library=b"\x7fELF nonsense"), device="host")
    assert failure.verdict == "crash"
    assert "host.so" in str(failure)


def test_a_process_that_dies_is_a_crash_with_its_last_output(
    artifacts: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A module that kills the process as TVM is imported stands for a segmentation fault in it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\nprint('last words', file=sys.stderr, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path.cwd())]))
    failure = failure_of(artifacts["host"], device="host")
    assert failure.verdict == "crash"
    assert "SIGSEGV" in str(failure)
    assert "last words" in str(failure)


def test_malformed_ptx_is_a_crash_that_names_the_line(artifacts: dict[str, Artifact]) -> None:
    name = "dense_kernel.ptx"
    text = artifacts["tensorcore"].machine[name].decode().replace("wmma.mma", "wmma.mystery", 1)
    failure = failure_of(with_machine(artifacts["tensorcore"], name, text.encode()))
    assert failure.verdict == "crash"
    assert "wmma.mystery" in str(failure)


def test_a_program_cut_short_is_a_crash(artifacts: dict[str, Artifact]) -> None:
    name = "dense_kernel.vta"
    content = artifacts["vta"].machine[name]
    failure = failure_of(with_machine(artifacts["vta"], name, content[: len(content) // 2]))
    assert failure.verdict == "crash"


@needs_qemu
@pytest.mark.usefixtures("no_process_is_left")
def test_an_illegal_instruction_kills_qemu_and_is_a_crash(artifacts: dict[str, Artifact]) -> None:
    elf = bytearray(artifacts["hexagon"].machine[HEXAGON_PROGRAM])
    for instruction in find_vrmpy(bytes(elf)):
        elf[instruction.offset : instruction.offset + 4] = b"\xff\xff\xff\xff"
    failure = failure_of(with_machine(artifacts["hexagon"], HEXAGON_PROGRAM, bytes(elf)))
    assert failure.verdict == "crash"
    assert "dense_kernel" in str(failure)


@needs_qemu
def test_a_corrupt_elf_is_refused_before_it_is_run(artifacts: dict[str, Artifact]) -> None:
    for name in (HEXAGON_PROGRAM, HEXAGON_TWIN):
        content = artifacts["hexagon"].machine[name]
        failure = failure_of(with_machine(artifacts["hexagon"], name, content[:-100]))
        assert failure.verdict == "crash"
        assert "cut short" in str(failure)


@pytest.fixture
def found_out_anew() -> Iterator[None]:
    """What a QEMU runs is found out once in a process."""
    hexagon._why_not_running.cache_clear()
    yield
    hexagon._why_not_running.cache_clear()


@needs_qemu
@pytest.mark.usefixtures("no_process_is_left", "found_out_anew")
def test_a_simulator_that_is_too_old_is_missing(
    artifacts: dict[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_qemu("echo 'qemu: uncaught target signal 4' >&2; exit 132", tmp_path, monkeypatch)
    failure = failure_of(artifacts["hexagon"])
    assert failure.verdict == "device-missing"
    assert "does not run Hexagon v67, as 7.2 does: apt-get install" in str(failure)


# The probe that tells what a QEMU runs is let through: it is far smaller than a function server.
CUT = """if [ $(wc -c < "$1") -lt 5000 ]; then exec "$QEMU" "$@"; fi
exec python3 -c '
import os, subprocess, sys
left = {count}
with subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE) as qemu:
    while left:
        piece = os.read(qemu.stdout.fileno(), left)
        left -= os.write(1, piece)
    qemu.kill()
' "$QEMU" "$@"
"""


@needs_qemu
@pytest.mark.usefixtures("no_process_is_left")
@pytest.mark.parametrize(
    ("count", "doing"),
    [(2, "ended with status 0 while starting"), (150, "dense_kernel: qemu-hexagon ended with status 0")],
)
def test_a_simulator_that_returns_too_few_bytes_is_a_crash(
    count: int,
    doing: str,
    artifacts: dict[str, Artifact],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replace_qemu(CUT.format(count=count), tmp_path, monkeypatch)
    failure = failure_of(artifacts["hexagon"])
    assert failure.verdict == "crash"
    assert doing in str(failure)


def test_no_space_for_an_artefact_is_an_error_and_nothing_is_left(
    artifacts: dict[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            execute(artifacts["vta"], {"data": DATA}, device="sim")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == []


def test_a_missing_simulator_is_said_with_what_to_type(
    artifacts: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    failure = failure_of(artifacts["hexagon"])
    assert failure.verdict == "device-missing"
    assert "apt-get install qemu-user" in str(failure)
