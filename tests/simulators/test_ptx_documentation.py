"""docs/ptx.md and the machine agree."""

from pathlib import Path

import pytest

import simulators.ptx.instructions  # noqa: F401
from simulators.ptx.forms import DEFINITIONS
from simulators.ptx.instructions.mma import MMA_SHAPES
from simulators.ptx.instructions.wmma import WMMA_SHAPES
from simulators.ptx.support import support_table
from simulators.wmma import BINARY_SHAPES, SUPPORTED

DOCUMENT = Path(__file__).parents[2] / "docs" / "ptx.md"


def test_the_table_in_the_document_is_the_one_the_machine_runs_by():
    written = DOCUMENT.read_text().split("<!-- made by: python -m simulators.ptx.support -->\n")[1]
    assert written == support_table(), (
        "run: python -m simulators.ptx.support, and put its output into docs/ptx.md"
    )


@pytest.mark.parametrize(
    "definition", [d for same in DEFINITIONS.values() for d in same], ids=lambda d: d.pattern
)
def test_every_instruction_says_what_it_does_and_where_that_stands(definition):
    assert len(definition.summary) > 5
    assert "Instructions" in definition.section
    assert ":" in definition.section


NAMES = {"int8": "s8", "uint8": "u8", "int4": "s4", "uint4": "u4"}


def test_machine_and_models_know_the_same_wmma_variants():
    machine = {(shape, kind) for kind, shapes in WMMA_SHAPES.items() for shape in shapes.values()}
    models = {(v.shape, NAMES[v.a]) for v in SUPPORTED if v.instruction == "wmma"}
    assert machine == models | {(BINARY_SHAPES[0], "b1")}


def test_machine_and_models_know_the_same_mma_variants():
    machine = {(shape, kind) for kind, shapes in MMA_SHAPES.items() for shape in shapes.values()}
    models = {(v.shape, NAMES[v.a][1:]) for v in SUPPORTED if v.instruction == "mma"}
    assert machine == models | {(shape, "b1") for shape in BINARY_SHAPES}
