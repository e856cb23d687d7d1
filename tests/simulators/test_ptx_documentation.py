"""docs/ptx.md and the machine agree."""

from pathlib import Path

import pytest

import simulators.ptx.instructions  # noqa: F401
from simulators.ptx.forms import DEFINITIONS
from simulators.ptx.instructions.matrix import WMMA_SHAPES
from simulators.ptx.support import support_table
from simulators.wmma import SUPPORTED

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


def test_machine_and_models_know_the_same_wmma_variants():
    machine = {(shape, kind) for kind, shapes in WMMA_SHAPES.items() for shape in shapes.values()}
    names = {"int8": "s8", "uint8": "u8", "int4": "s4", "uint4": "u4"}
    models = {(v.shape, names[v.a]) for v in SUPPORTED if v.instruction == "wmma"}
    assert machine == models
