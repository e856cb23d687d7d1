"""The padding table of TVM's legalisation (PR #8222), executed: sizes that no kernel takes are exact, too.

Its pads are in test_hwnc_padding.py; workloads and instructions, with their counters, in tests/kernels.
"""

import pytest

from tests.bench.tensorcore_proof import PADDED

QUICK = ("int4, inputs 13",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in PADDED]
)
def test_padded_layers_are_exact(name: str) -> None:
    verdict = PADDED[name]("sim")
    assert (verdict.verdict, verdict.reason) == ("exact", None)
    assert all(layer.count for layer in verdict.layers)
