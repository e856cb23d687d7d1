"""Programs on every backend: the same result, or a finding that says why not."""

import numpy as np
import pytest

from kernels.vta import Residual, conv2d, elementwise, pool2d
from simulators.vta import Machine
from simulators.vta.profiles import PROFILES
from tests.kernels import test_vta_conv2d
from tests.kernels import vta_reference as reference

CONVOLUTIONS = [
    name
    for name, case in test_vta_conv2d.CASES.items()
    if all(operation != "mul" for operation, _ in case.epilogue)
    and all(operand <= 15 for operation, operand in case.epilogue if operation == "shr")
]


@pytest.mark.parametrize("profile", [each for each in PROFILES if each != "fsim"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_does_not_depend_on_the_backend(name, profile):
    case = test_vta_conv2d.CASES[name]
    if profile == "opencl" and case.config.block not in (16, 32):
        pytest.skip("opencl has blocks of 16 and 32 alone")
    arrays, options, expected = test_vta_conv2d.build(case)
    program = conv2d(arrays["data"].shape, arrays["weight"].shape, **options)
    outputs, report = program.run(Machine(case.config, profile), arrays)
    assert {each.kind for each in report.findings} <= {"lossy-store"}
    np.testing.assert_array_equal(reference.unpack_data(outputs["out"]), expected)


LAYERS = {
    "residual-sum": lambda: elementwise(
        (1, 2, 9, 9, 1, 16), epilogue=[("add", Residual("other", 1)), ("shr", 2)]
    ),
    "max": lambda: pool2d((1, 2, 9, 9, 1, 16), kind="max", window=(3, 3), strides=(2, 2), padding=(1,) * 4),
    "sum": lambda: pool2d((1, 2, 8, 8, 1, 16), kind="sum", window=(2, 2), epilogue=[("shr", 2)]),
}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_a_layer_of_the_alu_is_the_same_or_says_that_it_is_not(make, profile):
    program = make()
    rng = np.random.default_rng(3)
    arrays = {each.name: reference.full_range(rng, each.shape) for each in program.arguments}
    expected = program.run(Machine(), arrays)[0]["out"]
    outputs, report = program.run(Machine(profile=profile), arrays)
    kinds = {each.kind for each in report.findings}
    same = np.array_equal(outputs["out"], expected)
    if PROFILES[profile].acc_8bit == "nothing":
        assert kinds
        assert not same
    else:
        assert kinds == set()
        assert same
