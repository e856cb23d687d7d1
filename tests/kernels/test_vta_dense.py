"""Dense programs on the machine, and their descriptions on this CPU, against plain int64 NumPy."""

import numpy as np
import pytest
import tvm

from kernels.vta import dense
from kernels.vta.tensorir import dense_primfunc
from simulators.vta import Config, Machine, load
from tests.kernels import vta_reference as reference
from tests.kernels.test_vta_conv2d import BATCHED, FEW_UOPS, REQUANTISE, SIGNED, TINY

CASES = {
    "digits": ((256, 64, 16), REQUANTISE, Config()),
    "one-tile": ((1, 16, 16), REQUANTISE, Config()),
    "one-row-of-1024": ((1, 1024, 48), SIGNED, Config()),
    "weights-beyond-wgt": ((5, 1024, 512), SIGNED, Config()),
    "more-rows-than-inp": ((2100, 32, 16), REQUANTISE, Config()),
    "batch-4-block-8": ((16, 64, 40), SIGNED, BATCHED),
    "tiny-memories": ((40, 44, 36), SIGNED, TINY),
    "micro-ops-replaced": ((40, 44, 36), SIGNED, FEW_UOPS),
    "bias-twice": ((3, 32, 32), (("add", "bias"), ("shr", 9), ("add", "bias")), Config()),
    "no-epilogue": ((3, 16, 32), (), Config()),
}


def build(sizes, epilogue, config):
    rows, inputs, outputs = sizes
    rng = np.random.default_rng(rows + inputs + outputs)
    b, c = config.batch, config.block
    data, weight = reference.full_range(rng, (rows, inputs)), reference.full_range(rng, (outputs, inputs))
    names = dict.fromkeys(operand for _, operand in epilogue if isinstance(operand, str))
    tensors = {name: rng.integers(-(2**31), 2**31, (b, outputs)).astype(np.int32) // 50 for name in names}
    arrays = {
        "data": reference.pack_data(data, b, c),
        "weight": reference.pack_data(weight, c, c),
        **{name: reference.pack_tensor(tensor, c, positions=0) for name, tensor in tensors.items()},
    }
    acc = data.astype(np.int64) @ weight.astype(np.int64).T
    return arrays, reference.epilogue(acc, epilogue, tensors)


@pytest.mark.parametrize(("sizes", "epilogue", "config"), CASES.values(), ids=CASES)
def test_a_program_computes_the_product(sizes, epilogue, config):
    arrays, expected = build(sizes, epilogue, config)
    program = load(
        dense(arrays["data"].shape, arrays["weight"].shape, epilogue=epilogue, config=config).to_bytes()
    )
    assert [each.name for each in program.arguments] == list(arrays)
    outputs, report = program.run(Machine(config), arrays)
    np.testing.assert_array_equal(reference.unpack_data(outputs["out"]), expected)
    assert {each.kind for each in report.findings} <= {"lossy-store"}
    assert report.counters == program.counters
    assert report.counters["gemm_counter"] == np.prod(sizes) // (config.batch * config.block**2)


@pytest.mark.parametrize(("sizes", "epilogue", "config"), CASES.values(), ids=CASES)
def test_the_description_computes_the_same_bytes_on_this_cpu(sizes, epilogue, config):
    arrays, expected = build(sizes, epilogue, config)
    function = dense_primfunc(arrays["data"].shape, arrays["weight"].shape, epilogue=epilogue, config=config)
    module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    packed = np.zeros_like(reference.pack_data(expected, config.batch, config.block))
    tensors = [tvm.runtime.tensor(each) for each in (*arrays.values(), packed)]
    tvm.compile(module, target="llvm")["main"](*tensors)
    np.testing.assert_array_equal(reference.unpack_data(tensors[-1].numpy()), expected)


@pytest.mark.parametrize(
    ("data", "weight", "words"),
    [
        ((1, 1, 16), (1, 1, 16, 16), r"data \(1, 1, 16\) is not packed as \(M/1, K/16, 1, 16\)"),
        ((1, 1, 1, 16), (1, 1, 16, 8), r"weight .* is not packed as \(O/16, K/16, 16, 16\)"),
        ((1, 2, 1, 16), (1, 1, 16, 16), "weight has 1 blocks of input channels, and data has 2"),
    ],
    ids=["rank", "block", "channels"],
)
def test_a_layer_that_vta_cannot_take_is_one_error(data, weight, words):
    for make in (dense, dense_primfunc):
        with pytest.raises(ValueError, match=words):
            make(data, weight)


def test_accumulators_that_do_not_fit_are_an_error():
    tensors = [("add", "bias"), ("mul", "scale")]
    with pytest.raises(ValueError, match="ACC: the smallest tile takes 3 elements, and 2 fit"):
        dense((1, 1, 1, 16), (1, 1, 16, 16), epilogue=tensors, config=Config(LOG_ACC_BUFF_SIZE=7))
