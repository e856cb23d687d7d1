"""Verifying a schedule in many shapes: sequences and strategies, and the smallest shape that fails."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc

import bench
from bench.cli import main
from bench.compare.verdict import Verdict
from bench.trace import Trace
from bench.verification.shapes import verify_shapes
from kernels.tensorcore.dense import dense_primfunc, schedule_dense

Shape = tuple[int, int]
EXAMPLE = Path(__file__).parents[2] / "examples" / "my_schedule_in_many_shapes.py"


def block(shape: Shape) -> PrimFunc:
    """8·rows by 16·depth, by 32 columns."""
    return dense_primfunc((8 * shape[0], 16 * shape[1]), units=32)


def schedule(given: Schedule) -> Schedule:
    return Schedule(schedule_dense(given.mod["main"]))


def kernel(shape: Shape) -> PrimFunc:
    return schedule_dense(block(shape))


def product(data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    plain = weight.transpose(0, 2, 1, 3).reshape(weight.shape[0] * 32, -1)
    return data.astype(np.int64) @ plain.T.astype(np.int64)


def wrong_beyond_16_rows(data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return product(data, weight) + (data.shape[0] > 16)


def test_every_shape_of_a_list_is_verified() -> None:
    verdict = bench.verify(schedule, None, "tensorcore", block=block, shapes=[(1, 1), (2, 3), (3, 2)])
    assert verdict.exact
    assert (verdict.shapes_tried, verdict.shape) == (3, None)
    assert verdict.tensor_instructions == 1 + 2 * 3 + 3 * 2
    assert [layer.count for layer in verdict.layers] == [1, 6, 6]


def test_a_list_ends_at_the_first_shape_that_fails() -> None:
    shapes = [(1, 1), (4, 1), (3, 1)]
    verdict = bench.verify(kernel, wrong_beyond_16_rows, "tensorcore", shapes=shapes)
    assert (verdict.verdict, verdict.shape, verdict.shapes_tried) == ("mismatch", "(4, 1)", 2)
    assert verdict.smallest is not None


def test_the_smallest_shape_of_a_strategy_is_found_and_kept() -> None:
    trace = Trace()
    shapes = st.tuples(st.integers(1, 6), st.integers(1, 4))
    verdict = bench.verify(kernel, wrong_beyond_16_rows, "tensorcore", shapes=shapes, trace=trace)
    assert (verdict.verdict, verdict.shape) == ("mismatch", "(3, 1)")
    assert trace.inputs["data"].shape == (24, 16)


def verdict_where(fails: set[int]) -> tuple[list[int], object]:
    tried: list[int] = []

    def verify(shape: int, *, explain: bool) -> Verdict:
        tried.append(shape)
        return Verdict("kernel", "vta", "sim", "mismatch" if shape in fails else "exact")

    return tried, verify


def test_a_strategy_is_drawn_from_its_seed_and_no_shape_is_verified_twice() -> None:
    draws = []
    for seed in (3, 3, 4):
        tried, verify = verdict_where(set())
        verdict = verify_shapes(verify, st.integers(0, 10**6), examples=12, seed=seed)  # type: ignore[arg-type]
        assert verdict.exact
        assert verdict.shapes_tried == len(tried) == len(set(tried)) <= 12
        draws.append(tried)
    assert draws[0] == draws[1] != draws[2]


def test_only_the_smallest_shape_is_explained() -> None:
    explained = []

    def verify(shape: int, *, explain: bool) -> Verdict:
        if explain:
            explained.append(shape)
        return Verdict("kernel", "vta", "sim", "mismatch" if shape >= 40 else "exact")

    verdict = verify_shapes(verify, st.integers(0, 1000), examples=30, seed=1)
    assert explained == [40]
    assert verdict.shape == "40"


def test_a_missing_device_ends_it_at_once() -> None:
    tried = []

    def verify(shape: int, *, explain: bool) -> Verdict:
        tried.append(shape)
        return Verdict("kernel", "hexagon", "sim", "device-missing")

    verdict = verify_shapes(verify, st.integers(0, 1000), examples=30)
    assert verdict.verdict == "device-missing"
    assert len(set(tried)) == 1


ERRORS = {
    "no-shapes": (lambda: bench.verify(kernel, product, shapes=[]), "there is no shape to verify"),
    "not-shapes": (lambda: bench.verify(kernel, product, shapes=8), "a sequence or a Hypothesis strategy"),
    "inputs": (
        lambda: bench.verify(kernel, product, shapes=[(1, 1)], inputs=[]),
        "leave out either shapes or inputs",
    ),
    "fixed-block": (
        lambda: bench.verify(schedule, None, shapes=[(1, 1)], block=block((1, 1))),
        "block is a function that makes the PrimFunc of a shape",
    ),
    "fixed-kernel": (
        lambda: bench.verify(kernel((1, 1)), product, shapes=[(1, 1)]),
        "the kernel is a function of a shape",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_has_no_shapes_is_an_error_that_says_so(case: str) -> None:
    call, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_the_example_is_exact(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(EXAMPLE), "--target", "tensorcore", "--examples", "3"]) == 0
    assert "seed 0: 3 shapes" in capsys.readouterr().out


def test_the_command_names_the_smallest_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "theirs.py"
    file.write_text(
        EXAMPLE.read_text() + "\n\ndef reference(data, weight):\n    import numpy as np\n"
        "    return np.ones((data.shape[0], 32 * weight.shape[0]), np.int32)\n"
    )
    folder = str(tmp_path / "bundles")
    assert main(["verify", str(file), "--target", "tensorcore", "--bundles", folder]) == 1
    assert "the smallest that fails is (1, 1, 1): data int8[8, 16]" in capsys.readouterr().out
