"""Programs give the same bytes in whatever order their tokens let the three engines run."""

from itertools import permutations

import numpy as np
import pytest

from kernels.vta import conv2d, dense
from simulators.vta import Machine
from simulators.vta.machine import ENGINES, _Run
from tests.kernels import test_vta_conv2d, test_vta_dense
from tests.kernels import vta_reference as reference

CONVOLUTIONS = ["digits-2-stride-2", "tiny-memories", "tiny-memories-wide", "micro-ops-replaced"]
PRODUCTS = ["weights-beyond-wgt", "tiny-memories"]


def _by_priority(order):
    """Let the engine that stands first in `order` run as far as it can before the next one."""

    def choose(run: _Run) -> int | None:
        ready = list(run._ready())
        first = {run.waiting[engine][-1]: order.index(engine) for engine in ENGINES if run.waiting[engine]}
        return min(ready, key=first.__getitem__, default=None)

    return choose


def _at_random(seed):
    rng = np.random.default_rng(seed)

    def choose(run: _Run) -> int | None:
        ready = list(run._ready())
        return int(rng.choice(ready)) if ready else None

    return choose


ORDERS = {"-".join(order): _by_priority(order) for order in permutations(ENGINES)}
ORDERS |= {f"random-{seed}": _at_random(seed) for seed in range(3)}


@pytest.fixture(params=ORDERS.values(), ids=ORDERS)
def _order(request, monkeypatch):
    monkeypatch.setattr(_Run, "_next", request.param)


@pytest.mark.usefixtures("_order")
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution(name):
    case = test_vta_conv2d.CASES[name]
    arrays, options, expected = test_vta_conv2d.build(case)
    program = conv2d(arrays["data"].shape, arrays["weight"].shape, **options)
    _check(program, case.config, arrays, expected)


@pytest.mark.usefixtures("_order")
@pytest.mark.parametrize("name", PRODUCTS)
def test_a_dense_layer(name):
    sizes, epilogue, config = test_vta_dense.CASES[name]
    arrays, expected = test_vta_dense.build(sizes, epilogue, config)
    program = dense(arrays["data"].shape, arrays["weight"].shape, epilogue=epilogue, config=config)
    _check(program, config, arrays, expected)


def _check(program, config, arrays, expected):
    machine = Machine(config)
    for _ in range(2):
        outputs, report = program.run(machine, arrays)
        np.testing.assert_array_equal(reference.unpack_data(outputs["out"]), expected)
        assert report.findings == []
