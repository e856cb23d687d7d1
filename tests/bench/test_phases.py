"""Hexagon: transposed convolutions, as plain ones of all their phases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax

from bench.compare.mismatch import find_pass_mismatch
from bench.evaluate import evaluate_all
from bench.flows.flow import Unsupported
from bench.flows.hexagon import HexagonFlow
from bench.flows.transformed import Transformed
from bench.passes.lift_kernels import bindings_of
from bench.passes.phases import Axis
from bench.pipeline import run
from simulators.hvx import qemu
from tests.bench.integer_graphs import full_range, module_of


@dataclass(frozen=True)
class Case:
    """One transposed convolution, NCHW by IOHW."""

    inputs: int = 32
    outputs: int = 32
    size: tuple[int, int] = (5, 4)
    kernel: tuple[int, int] = (2, 2)
    strides: tuple[int, int] = (2, 2)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    output_padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    dtype: str = "uint8"

    def module(self) -> tvm.IRModule:
        rng = np.random.default_rng(3)
        shape = (self.inputs, self.outputs // self.groups, *self.kernel)
        weight = relax.const(full_range(rng, shape, "int8"))

        def build(emit, data):  # type: ignore[no-untyped-def]
            window = {
                name: getattr(self, name) for name in ("strides", "padding", "output_padding", "dilation")
            }
            return emit(
                "up",
                relax.op.nn.conv2d_transpose(data, weight, **window, groups=self.groups, out_dtype="int32"),
            )

        return module_of({"data": (self.shape, self.dtype)}, build)

    @property
    def shape(self) -> tuple[int, ...]:
        return (2, self.inputs, *self.size)

    def data(self) -> np.ndarray:
        return full_range(np.random.default_rng(4), self.shape, self.dtype)


CASES = {
    "2x2, stride 2": Case(),
    "3x3, stride 2, as frameworks write it": Case(kernel=(3, 3), padding=(1, 1, 1, 1), output_padding=(1, 1)),
    "4x4, stride 2 (DCGAN)": Case(kernel=(4, 4), padding=(1, 1, 1, 1), inputs=64),
    "stride 1": Case(kernel=(3, 3), strides=(1, 1)),
    "stride 3, filter smaller than it": Case(strides=(3, 3), output_padding=(2, 1)),
    "uneven": Case(kernel=(3, 5), strides=(2, 3), padding=(0, 2, 1, 3), output_padding=(1, 2)),
    "cut by more than a stride": Case(kernel=(7, 6), padding=(5, 4, 4, 5)),
    "dilated": Case(kernel=(3, 2), dilation=(2, 3), strides=(2, 2)),
    "36 to 40 channels of int8": Case(inputs=36, outputs=40, dtype="int8"),
    "3 to 5 channels": Case(inputs=3, outputs=5),
}


def checked(case: Case) -> Transformed:
    module, flow = case.module(), HexagonFlow()
    transformed = flow.transform(module)
    original = evaluate_all(module, case.data())
    after = evaluate_all(transformed.mod, case.data(), overrides=flow.overrides)
    assert find_pass_mismatch(transformed, after, original) is None
    assert "up" in {entry.original for entry in transformed.correspondences}
    return transformed


@pytest.mark.parametrize("case", CASES)
def test_the_phases_hold_the_values(case: str) -> None:
    transformed = checked(CASES[case])
    (layer,) = transformed.report
    assert (layer.name, layer.operator, layer.why_not) == ("up", "conv2d_transpose", None)
    assert layer.instruction in ("vrmpyub", "vrmpybus")
    assert transformed.on_host == {}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_geometry_holds_the_values(draw: st.DataObject) -> None:
    def two(low: int, high: int) -> tuple[int, int]:
        return draw.draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    kernel, strides, dilation = two(1, 5), two(1, 4), two(1, 2)
    size = two(1, 5)
    full = [
        (extent - 1) * step + (taps - 1) * by + 1
        for extent, step, taps, by in zip(size, strides, kernel, dilation, strict=True)
    ]
    ends = [draw.draw(st.integers(0, (extent - 1) // 2)) for extent in (*full, *full)]
    extra = tuple(draw.draw(st.integers(0, step - 1)) for step in strides)
    checked(Case(4, 3, size, kernel, strides, padding=tuple(ends), output_padding=extra, dilation=dilation))


def test_no_product_is_one_with_a_zero_between_data() -> None:
    """16 taps with stride 2 are 4 for each of 4 phases: as many as a transposed convolution has."""
    case = CASES["4x4, stride 2 (DCGAN)"]
    transformed = checked(case)
    kernel = transformed.mod[transformed.report[0].kernel]
    (call,) = [each.value for each in bindings_of(kernel) if isinstance(each.value, relax.Call)]
    weight = tuple(int(extent) for extent in call.args[1].ty.shape)
    assert weight == (4, 2, 2, 2, 8, 32, 4)  # phases, blocks of inputs, 2 x 2 taps


@pytest.mark.parametrize(
    ("arguments", "axis"),
    [
        ({"kernel": 2, "stride": 2, "cut": 0, "extent": 5, "result": 10}, Axis(2, 1, 0, 0, 0)),
        ({"kernel": 3, "stride": 2, "cut": 1, "extent": 5, "result": 10}, Axis(2, 2, 1, 1, 1)),
        ({"kernel": 4, "stride": 2, "cut": 3, "extent": 5, "result": 6}, Axis(2, 2, 0, 0, 1)),
        ({"kernel": 1, "stride": 3, "cut": 0, "extent": 2, "result": 6}, Axis(3, 1, 0, 0, 0)),
    ],
    ids=["2x2", "3x3", "cut", "gaps"],
)
def test_taps_and_padding_of_the_phases(arguments: dict[str, int], axis: Axis) -> None:
    assert Axis.of(**arguments) == axis


def test_groups_stay_on_the_host_with_the_reason() -> None:
    with pytest.raises(Unsupported, match="up: it has 2 groups; the kernels take one"):
        HexagonFlow().transform(Case(groups=2).module())


@pytest.mark.parametrize("device", ["host", "sim"])
def test_devices_compute_the_same(device: str) -> None:
    if device == "sim" and qemu.available() is not None:
        pytest.skip(str(qemu.available()))
    case = CASES["uneven"]
    verdict = run(case.module(), case.data(), "hexagon", device)
    assert (verdict.verdict, verdict.reason) == ("exact", None)
    (layer,) = verdict.layers
    assert layer.verdict == "exact"
    assert device == "host" or layer.count > 0
