"""DRAM traffic and micro-ops of ResNet-18's convolutions, next to the old TVM's tuned schedules.

A layer is convolution, >> 8, + bias, clip to 0..127, cast. The table is one run of each with those schedules,
by the functional simulator's counters, in the default configuration: all bytes, GEMM and ALU micro-ops.
"""

import numpy as np
import pytest

from bench.efficiency import dram_bytes
from bench.perf.layers import RESNET18
from kernels.vta import conv2d
from simulators.vta import Machine
from tests.kernels import vta_reference as reference

# channels in, height and width, channels out, kernel, stride, padding
LAYERS = RESNET18
TUNED = {
    "C2": (948_448, 451_584, 50_176),
    "C3": (820_984, 225_792, 25_088),
    "C4": (501_392, 25_088, 25_088),
    "C5": (827_184, 451_584, 25_088),
    "C6": (749_008, 225_792, 12_544),
    "C7": (297_616, 25_088, 12_544),
    "C8": (843_216, 451_584, 12_544),
    "C9": (1_309_912, 225_792, 6_272),
    "C10": (244_880, 25_088, 6_272),
    "C11": (2_439_384, 451_584, 6_272),
}
EPILOGUE = (("shr", 8), ("add", "bias"), ("max", 0), ("min", 127))


def program_of(layer):
    inputs, size, outputs, kernel, stride, padding = LAYERS[layer]
    return conv2d(
        (1, inputs // 16, size, size, 1, 16),
        (outputs // 16, inputs // 16, kernel, kernel, 16, 16),
        strides=(stride, stride),
        padding=(padding,) * 4,
        epilogue=EPILOGUE,
    )


@pytest.fixture(scope="module")
def counters():
    return {layer: program_of(layer).counters for layer in LAYERS}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_moves_and_computes_no_more_than_the_tuned_schedule(layer, counters):
    nbytes, gemm, alu = TUNED[layer]
    assert dram_bytes(counters[layer]) <= nbytes
    assert counters[layer]["gemm_counter"] <= gemm
    assert counters[layer]["alu_counter"] <= alu


def test_all_layers_together_move_15_percent_less(counters):
    total = sum(map(dram_bytes, counters.values()))
    assert total <= 0.85 * sum(nbytes for nbytes, _, _ in TUNED.values())


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_is_exact_and_its_engines_overlap(layer):
    inputs, size, outputs, kernel, stride, padding = LAYERS[layer]
    rng = np.random.default_rng(size)
    data = reference.full_range(rng, (1, inputs, size, size))
    weight = reference.full_range(rng, (outputs, inputs, kernel, kernel))
    bias = rng.integers(-2000, 2000, (1, outputs)).astype(np.int32)
    program = program_of(layer)
    outcome, report = program.run(
        Machine(),
        {
            "data": reference.pack_data(data, 1, 16),
            "weight": reference.pack_data(weight, 16, 16),
            "bias": reference.pack_tensor(bias, 16),
        },
    )
    assert report.findings == []
    assert report.counters == program.counters
    cycles = report.estimate
    assert cycles.cycles <= 1.15 * max(cycles.load, cycles.compute, cycles.store)
    acc = reference.convolution(data, weight, (stride, stride), (padding,) * 4)
    np.testing.assert_array_equal(
        reference.unpack_data(outcome["out"]), reference.epilogue(acc, EPILOGUE, {"bias": bias})
    )
