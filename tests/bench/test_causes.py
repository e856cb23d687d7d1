"""Causes: what was done wrong on purpose is named, and what is merely wrong is not."""

from collections.abc import Callable

import numpy as np
import pytest

from bench.compare.causes import kernel_causes, layer_causes
from bench.compare.causes.cause import Candidate, named_causes
from bench.compare.causes.straight import Straight
from bench.evaluate import evaluate_all
from bench.flows.flow import flow_for
from bench.flows.transformed import Transformed
from bench.layout import unpack
from bench.passes.lift_kernels import bindings_of
from bench.pipeline import run, transform
from bench.reports.table import cause_text
from tests.bench.integer_graphs import ConvCase, convolution, full_range

RNG = np.random.default_rng(0)
DATA, WEIGHT = (full_range(RNG, shape, "int8") for shape in ((12, 32), (8, 32)))


def product(inputs: list[np.ndarray]) -> np.ndarray:
    data, weight = inputs
    return (data.astype(np.int64) @ weight.astype(np.int64).T).astype(np.int32)


def exchanged(array: np.ndarray, one: int, other: int) -> np.ndarray:
    changed = array.copy()
    changed[:, [one, other]] = array[:, [other, one]]
    return changed


def without(array: np.ndarray, begin: int, end: int) -> np.ndarray:
    changed = array.copy()
    changed[:, begin:end] = 0
    return changed


EXPECTED = product([DATA, WEIGHT])
KERNELS: dict[str, tuple[np.ndarray, str, str]] = {
    "sign-of-data": (product([DATA.view(np.uint8), WEIGHT]), "sign", "data read as uint8 instead of int8"),
    "sign-of-weights": (product([DATA, WEIGHT.view(np.uint8)]), "sign", "weight read as uint8 instead of"),
    "lanes-3-and-9": (product([DATA, exchanged(WEIGHT, 3, 9)]), "lanes swapped", "lanes 3 and 9 exchanged"),
    "k-step": (
        product([without(DATA, 16, 24), WEIGHT]),
        "one K step missing",
        "not multiplied at 16 to 23 of dimension 1",
    ),
    "wraps-at-16": (EXPECTED.astype(np.int16).astype(np.int32), "accumulator width", "sums wrap at 16 bits"),
    "saturates-at-16": (
        np.clip(EXPECTED, -(2**15), 2**15 - 1),
        "accumulator width",
        "sums saturate at 16 bits",
    ),
    "result-lanes": (EXPECTED[:, [0, 1, 5, 3, 4, 2, 6, 7]], "lanes swapped", "lanes 2 and 5 of the result"),
    "stale-rows": (np.roll(EXPECTED, 1, axis=0), "stale tile", "one position before them in dimension 0"),
}


@pytest.mark.parametrize("case", KERNELS)
def test_the_cause_of_a_kernels_mismatch_is_named(case: str) -> None:
    got, name, what = KERNELS[case]
    cause, *_ = kernel_causes(product, ["data", "weight"], [DATA, WEIGHT], got, EXPECTED)
    assert (cause.name, cause.predicted, cause.spared) == (name, np.count_nonzero(got != EXPECTED), 0)
    assert what in cause.what


UNNAMED = {
    "noise": EXPECTED + RNG.integers(-3, 4, EXPECTED.shape, dtype=np.int32),
    "all-wrong-by-one": EXPECTED + np.int32(1),
    "one-element": np.where(np.arange(EXPECTED.size).reshape(EXPECTED.shape) == 7, 0, EXPECTED),
}


@pytest.mark.parametrize("case", UNNAMED)
def test_what_is_merely_wrong_has_no_cause(case: str) -> None:
    assert kernel_causes(product, ["data", "weight"], [DATA, WEIGHT], UNNAMED[case], EXPECTED) == ()


def test_a_reference_that_takes_no_other_types_is_not_tried_with_them() -> None:
    def strict(inputs: list[np.ndarray]) -> np.ndarray:
        assert inputs[0].dtype == np.int8
        return product(inputs)

    got = product([DATA, WEIGHT.view(np.uint8)])
    cause, *_ = kernel_causes(strict, ["data", "weight"], [DATA, WEIGHT], got, EXPECTED)
    assert cause.what.startswith("weight read as uint8")


def test_a_cause_that_acts_on_a_part_says_how_much_it_spares() -> None:
    got = np.concatenate([product([DATA[:4].view(np.uint8), WEIGHT]), EXPECTED[4:]])
    cause, *_ = kernel_causes(product, ["data", "weight"], [DATA, WEIGHT], got, EXPECTED)
    assert cause.name == "sign"
    assert cause.spared == np.count_nonzero(product([DATA.view(np.uint8), WEIGHT])[4:] != EXPECTED[4:])
    assert "more if it were so everywhere" in cause_text(cause)


def test_the_search_ends_with_its_time_and_with_a_cause_that_predicts_everything() -> None:
    tried = []

    def candidate(value: int) -> Candidate:
        return Candidate(str(value), "", lambda: tried.append(value) or np.array([value, 2 * value]))

    candidates = [candidate(value) for value in (1, 5, 7)]
    got, expected = np.array([5, 10]), np.array([0, 0])
    assert [cause.name for cause in named_causes(candidates, got, expected)] == ["5"]
    assert tried == [1, 5]
    assert named_causes(candidates, got, expected, seconds=-1) == ()


CASE = ConvCase(batch=6, inputs=20, size=6, outputs=36, padding=(1, 2, 1, 0))


def subject(target: str) -> tuple[Transformed, dict[str, np.ndarray]]:
    scheme = flow_for(target).scheme
    module = convolution(CASE, scheme=scheme)
    transformed = transform(module, target)
    data = full_range(np.random.default_rng(1), (CASE.batch, CASE.inputs, CASE.size, CASE.size), "int8")
    return transformed, evaluate_all(transformed.mod, data)


Wrong = Callable[[np.ndarray, np.ndarray, dict], tuple[np.ndarray, np.ndarray]]


def plain(call, change: Wrong):  # type: ignore[no-untyped-def]
    """The convolution of a call with operands in the integer graph's layouts, changed."""
    from dataclasses import replace

    from bench.layout import pack

    attributes = dict(call.attributes)
    data, weight = call.arguments
    image = unpack(data, attributes["data_layout"], target="NCHW").astype(np.int16)
    filters = unpack(weight, attributes["kernel_layout"], target="OIHW").astype(np.int16)
    image, filters = change(image, filters, attributes)
    arguments = (
        pack(image, attributes["data_layout"], source="NCHW"),
        pack(filters, attributes["kernel_layout"], source="OIHW"),
    )
    return replace(call, arguments=arguments, attributes=attributes).default()


def unsigned_data(image, weight, attributes):  # type: ignore[no-untyped-def]
    return image % 256, weight


def padded_with_128(image, weight, attributes):  # type: ignore[no-untyped-def]
    top, left, bottom, right = attributes["padding"]
    attributes["padding"] = (0, 0, 0, 0)
    return np.pad(image, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=128), weight


def moved_up(image, weight, attributes):  # type: ignore[no-untyped-def]
    top, left, bottom, right = attributes["padding"]
    attributes["padding"] = (top - 1, left, bottom + 1, right)
    return image, weight


def one_tap_missing(image, weight, attributes):  # type: ignore[no-untyped-def]
    weight = weight.copy()
    weight[:, :16, 1, 2] = 0
    return image, weight


def lanes_exchanged(image, weight, attributes):  # type: ignore[no-untyped-def]
    weight = weight.copy()
    for begin in range(0, weight.shape[1] - 15, 16):
        weight[:, [begin, begin + 5]] = weight[:, [begin + 5, begin]]
    return image, weight


LAYERS = {
    "sign": (unsigned_data, "sign", "data read as unsigned numbers of 8 bits"),
    "padding-value": (padded_with_128, "padding value", "the padding holds 128 instead of 0"),
    "padding-row": (moved_up, "padding position", "moved one row up"),
    "k-step": (one_tap_missing, "one K step missing", "tap row 1, tap column 2"),
    "lanes": (lanes_exchanged, "lanes swapped", "lanes 0 and 5 exchanged"),
}


@pytest.mark.parametrize("case", LAYERS)
@pytest.mark.parametrize("target", ["tensorcore", "vta"])
def test_the_cause_of_a_layers_mismatch_is_named(target: str, case: str) -> None:
    change, name, what = LAYERS[case]
    transformed, values = subject(target)
    binding = next(
        each for each in bindings_of(transformed.mod["main"]) if each.var.name == transformed.report[0].result
    )
    kernel = Straight.of(transformed.mod[binding.value.op])
    assert kernel is not None
    arguments = [
        values[argument.name] if hasattr(argument, "name") else argument.value.numpy()
        for argument in binding.value.args
    ]
    assert np.array_equal(kernel.run(arguments, {}), values[binding.var.name])
    got = kernel.run(arguments, {0: lambda call: plain(call, change)})
    cause, *_ = layer_causes(transformed, binding, values, got)
    assert cause.name == name
    assert what in cause.what
    assert cause.predicted == cause.differing


def test_a_wrong_shift_behind_a_layer_is_named() -> None:
    from bench.faults import fault_named

    case = ConvCase(batch=2, inputs=16, size=6, outputs=16)
    data = full_range(np.random.default_rng(1), (2, 16, 6, 6), "int8")
    module = convolution(case, scheme="pow2")
    verdict = run(module, data, "vta", fault=fault_named("vta-shift-by-one"))
    assert verdict.verdict == "mismatch"
    assert [cause.name for cause in verdict.causes[:1]] == ["shift"]
    assert "shifted to the right by one bit more" in verdict.causes[0].what
    assert verdict.to_json()["causes"][0]["predicted"] == verdict.causes[0].predicted
    quick = run(module, data, "vta", fault=fault_named("vta-shift-by-one"), explain=False)
    assert quick.causes == ()
