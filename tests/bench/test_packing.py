"""A packed graph holds the values of the integer graph, for every target and any number of channels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.compare.mismatch import find_pass_mismatch
from bench.evaluate import evaluate_all
from bench.flows.flow import flow_for
from bench.flows.tensorcore import TensorCoreFlow
from bench.passes.lift_kernels import bindings_of
from tests.bench.integer_graphs import ConvCase, convolution, dense, full_range

TARGETS = ("tensorcore", "hexagon", "vta")

CASES = [
    ConvCase(batch=1, inputs=1, outputs=1, kernel=1, padding=(0, 0, 0, 0)),
    ConvCase(batch=8, inputs=16, outputs=32),
    ConvCase(batch=9, inputs=33, outputs=31),
    ConvCase(inputs=36, outputs=48),
    ConvCase(strides=(2, 1), padding=(0, 1, 2, 3)),
    ConvCase(size=7, strides=(2, 2), padding=(1, 0, 0, 1)),
]


def options(target: str) -> dict[str, str]:
    flow = flow_for(target)
    return {"scheme": flow.scheme, "data_dtype": flow.data_dtype}


def check(target, module, data):  # type: ignore[no-untyped-def]
    flow = flow_for(target)
    transformed = flow.transform(module)
    original = evaluate_all(module, data)
    for overrides in (None, flow.overrides):
        evaluated = evaluate_all(transformed.mod, data, overrides=overrides)
        assert find_pass_mismatch(transformed, evaluated, original) is None
    return transformed


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_convolutions_keep_their_values(target: str, case: ConvCase) -> None:
    module = convolution(case, **options(target))
    shape = (case.batch, case.inputs, case.size, case.size)
    data = full_range(np.random.default_rng(1), shape, options(target)["data_dtype"])
    transformed = check(target, module, data)
    taken = [layer.kernel is not None for layer in transformed.report]
    # VTA's LOAD writes at most one kernel's worth of padding.
    too_much_padding = target == "vta" and max(case.padding) >= case.kernel
    assert taken == [not too_much_padding, True]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("batch", "inputs", "units"), [(1, 1, 1), (8, 16, 32), (9, 17, 33), (3, 64, 10)])
def test_dense_layers_keep_their_values(target: str, batch: int, inputs: int, units: int) -> None:
    module = dense(batch, inputs, units, **options(target))
    data = full_range(np.random.default_rng(1), (batch, inputs), options(target)["data_dtype"])
    assert check(target, module, data).report[0].kernel


@settings(max_examples=15)
@given(data=st.data(), target=st.sampled_from(TARGETS))
def test_any_convolution_keeps_its_values(data: st.DataObject, target: str) -> None:
    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    case = ConvCase(
        batch=draw(1, 3),
        inputs=draw(1, 40),
        size=draw(3, 6),
        outputs=draw(1, 40),
        kernel=draw(1, 3),
        strides=(draw(1, 2), draw(1, 2)),
        padding=(draw(0, 2), draw(0, 2), draw(0, 2), draw(0, 2)),
    )
    shape = (case.batch, case.inputs, case.size, case.size)
    values = full_range(np.random.default_rng(draw(0, 99)), shape, options(target)["data_dtype"])
    check(target, convolution(case, **options(target)), values)


@pytest.mark.parametrize("target", TARGETS)
def test_layers_in_a_row_stay_packed(target: str) -> None:
    """Between two convolutions stand elementwise operators only: no tensor is moved."""
    transformed = flow_for(target).transform(convolution(ConvCase(), **options(target)))
    names = [binding.var.name for binding in bindings_of(transformed.mod["main"])]
    first, second = (names.index(layer.result) for layer in transformed.report)
    between = [bindings_of(transformed.mod["main"])[position] for position in range(first + 1, second)]
    moving = {"relax.permute_dims", "relax.reshape", "relax.nn.pad", "relax.strided_slice"}
    assert not moving & {getattr(binding.value.op, "name", "") for binding in between}


def test_a_correspondence_names_every_tensor_of_the_integer_graph() -> None:
    module = convolution(ConvCase())
    transformed = TensorCoreFlow(fuse=False).transform(module)
    named = {entry.original for entry in transformed.correspondences}
    emitted = {binding.var.name for binding in bindings_of(module["main"])} - {"result"}
    assert emitted <= named
