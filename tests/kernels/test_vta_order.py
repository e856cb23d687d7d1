"""Programs give the same bytes in whatever order their tokens let the three engines run."""

import numpy as np
import pytest

from kernels.vta import conv2d, dense
from simulators.vta import Machine
from tests.kernels import test_vta_conv2d, test_vta_dense
from tests.kernels import vta_reference as reference

CONVOLUTIONS = ["digits-2-stride-2", "tiny-memories", "tiny-memories-wide", "micro-ops-replaced"]
PRODUCTS = ["weights-beyond-wgt", "tiny-memories"]


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution(name):
    case = test_vta_conv2d.CASES[name]
    arrays, options, expected = test_vta_conv2d.build(case)
    program = conv2d(arrays["data"].shape, arrays["weight"].shape, **options)
    _check(program, case.config, arrays, expected)


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_dense_layer(name):
    sizes, epilogue, config = test_vta_dense.CASES[name]
    arrays, expected = test_vta_dense.build(sizes, epilogue, config)
    program = dense(arrays["data"].shape, arrays["weight"].shape, epilogue=epilogue, config=config)
    _check(program, config, arrays, expected)


def _check(program, config, arrays, expected):
    machine = Machine(config, schedule="adversarial")
    for _ in range(2):
        outputs, report = program.run(machine, arrays)
        np.testing.assert_array_equal(reference.unpack_data(outputs["out"]), expected)
        assert report.findings == []
