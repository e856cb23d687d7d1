"""`bitexact list --program`: a VTA program explained."""

import json
from pathlib import Path

import numpy as np
import pytest

from bench.cli import main
from tests.simulators.test_vta_explain import program


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "three.vta"
    path.write_bytes(program().to_bytes())
    return path


def test_a_program_is_explained(stored: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert main(["list", "--program", str(stored), "--json", str(report)]) == 0
    printed = capsys.readouterr().out
    assert "VTA 1x16_i8w8a32_15_15_18_17: 18 instructions, 1 micro-ops, 356 bytes" in printed
    assert "GEMM reset" in printed
    assert "instruction" not in printed.split("cycles: ")[1]
    numbers = json.loads(report.read_text())
    assert numbers["bytes"] == 356
    assert [each["bytes"] for each in numbers["memories"]] == [4, 48, 256, 0, 48]
    assert f"about {numbers['cycles']['all']:,} cycles" in printed
    assert numbers["problems"] == []


def test_a_dram_image_in_the_file_is_said_to_be_there(
    stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = []
    arrays = {each.name: np.zeros(each.shape, each.dtype) for each in program().arguments}
    for each in (program(), program().with_image(arrays)):
        stored.write_bytes(each.to_bytes())
        assert main(["list", "--program", str(stored)]) == 0
        texts.append(capsys.readouterr().out.splitlines()[0])
    assert texts == [texts[0], f"{texts[0]}, with its DRAM image"]


def test_all_instructions_where_they_are_asked_for(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--program", str(stored), "--instructions"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split() == ["17", "FINISH", "[pop_next]"]
    assert len([line for line in lines if "STORE OUT" in line]) == 3


def test_a_file_that_is_no_program_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other"
    path.write_bytes(b"something else")
    assert main(["list", "--program", str(path)]) == 2
    assert "not a VTA program: it does not begin with VTAPROG1" in capsys.readouterr().err
    assert main(["list", "--program", str(tmp_path / "missing")]) == 2
    assert "No such file" in capsys.readouterr().err
    assert main(["list", "--instructions"]) == 2
    assert "--instructions goes with --program" in capsys.readouterr().err
