"""The example of a board's driver, on loopback; a driver as a device; and files that are none."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import bench
from bench.cli import main
from bench.devices import drivers
from bench.devices.counters import IN_CODE
from bench.devices.failure import DeviceFailure
from examples import vta_board_driver
from examples.vta_board_driver import Board, Fabric
from simulators.vta import Config
from tests.bench.test_pipeline import graph

ROOT = Path(__file__).parents[2]
DEVICE = "examples/vta_board_driver.py:Board"


def test_the_example_sends_a_program_and_a_network_to_a_driver(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert vta_board_driver.main() == 0
    program, numbers, network = capsys.readouterr().out.splitlines()
    assert re.match(
        r"convolution\.vta, [\d,]+ bytes with its DRAM image, at rpc://127\.0\.0\.1:\d+: "
        r"{'hardware': 'VTA on a board \(an example: simulated\)', 'tensor_instructions_in_code': 7056}",
        program,
    )
    assert numbers == "6,272 numbers, the same as on the simulator here"
    assert network.endswith(": exact")


def test_a_driver_is_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    verdict = bench.run(*graph("vta"), "vta", DEVICE)
    assert (verdict.verdict, verdict.reason, verdict.device) == ("exact", None, DEVICE)
    assert verdict.counters[IN_CODE] > 0
    assert verdict.hardware == Board.hardware


def files_of_a_program(folder: Path) -> dict[str, bytes]:
    path = folder / "convolution.vta"
    vta_board_driver.save_program(path)
    return {path.name: path.read_bytes()}


def test_a_board_that_does_not_finish_is_a_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fabric, "done", lambda _: False)
    board = Board(files_of_a_program(tmp_path))
    with pytest.raises(DeviceFailure, match="VTA did not come to FINISH") as failure:
        board.call("convolution", [np.zeros((1, 2, 14, 14, 1, 16), np.int8)])
    assert failure.value.verdict == "timeout"


def test_a_result_is_written_where_the_caller_wants_it(tmp_path: Path) -> None:
    result = np.zeros((1, 2, 14, 14, 1, 16), np.int8)
    board = Board(files_of_a_program(tmp_path))
    board.call("convolution", [result])
    np.testing.assert_array_equal(result, vta_board_driver.save_program(tmp_path / "again.vta")["out"])


def test_memory_begins_behind_what_is_not_the_drivers() -> None:
    fabric = Fabric(Config())
    fabric.memory[:] = 7
    places = [fabric.allocate(nbytes) for nbytes in (1, 5000, 4096)]
    assert places == [Fabric.FIRST, Fabric.FIRST + 4096, Fabric.FIRST + 3 * 4096]
    fabric.free_all()
    assert fabric.memory.size == Fabric.FIRST
    assert (fabric.memory == 7).all()


@pytest.mark.parametrize(
    ("content", "device", "target", "words"),
    [
        (None, "there_is_none.py:Board", "vta", "there is no file there_is_none.py"),
        ("", "board.py:Board", "vta", "board.py has no class Board"),
        ("Board = 3\n", "board.py:Board", "vta", "board.py has no class Board"),
        (
            "class Board:\n    target = 'vta'\n    call = None\n",
            "board.py:Board",
            "vta",
            "Board lacks hardware, missing, close",
        ),
        (
            "from bench.devices.machines.vta import VtaPrograms as Board\n",
            "board.py:Board",
            "hexagon",
            "runs the target vta, not hexagon",
        ),
    ],
    ids=["file", "class", "no-class", "members", "target"],
)
def test_what_is_no_driver_is_one_error(  # type: ignore[no-untyped-def]  # noqa: PLR0917
    content, device: str, target: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("board.py").write_text(content)
    with pytest.raises(ValueError, match=words):
        drivers.driver_class(device, target)
    with pytest.raises(ValueError, match=words):
        bench.run(*graph(target), target, device)


@pytest.mark.parametrize(
    ("device", "words"),
    [("fpga", "one of host, sim, cuda, FILE.py:CLASS"), ("none.py:Board", "there is no file none.py")],
)
def test_a_server_of_what_is_no_device_is_a_usage_error(
    device: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["serve", "--port", "0", "--device", device])
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err
