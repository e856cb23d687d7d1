"""Convolution programs on the machine, and their descriptions on this CPU, against plain int64 NumPy."""

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pytest
import tvm

from kernels.vta import conv2d
from kernels.vta.epilogue import Extra
from kernels.vta.gemm import choose_tile, needs
from kernels.vta.layers import Convolution
from kernels.vta.tensorir import conv2d_primfunc
from simulators.vta import Config, Machine, isa, load
from tests.kernels import vta_reference as reference

REQUANTISE = (("add", "bias"), ("add", 512), ("shr", 10), ("max", 0), ("min", 127))
SIGNED = (("add", "bias"), ("add", 1024), ("shr", 11), ("max", -127), ("min", 127))
PYNQ = Config()
BATCHED = Config(
    LOG_BATCH=2,
    LOG_BLOCK=3,
    LOG_UOP_BUFF_SIZE=15,
    LOG_INP_BUFF_SIZE=16,
    LOG_WGT_BUFF_SIZE=16,
    LOG_ACC_BUFF_SIZE=18,
)
# 32 INP, 64 WGT and 32 ACC elements: every layer has to be cut.
TINY = Config(
    LOG_BLOCK=2, LOG_UOP_BUFF_SIZE=8, LOG_INP_BUFF_SIZE=7, LOG_WGT_BUFF_SIZE=10, LOG_ACC_BUFF_SIZE=9
)
# As TINY, with so few micro-ops that kernels replace one another.
FEW_UOPS = Config(
    LOG_BLOCK=2, LOG_UOP_BUFF_SIZE=6, LOG_INP_BUFF_SIZE=7, LOG_WGT_BUFF_SIZE=10, LOG_ACC_BUFF_SIZE=9
)


@dataclass(frozen=True)
class Case:
    """(N, C, H, W) and (O, KH, KW) in elements, all multiples of the configuration's block."""

    data: tuple[int, int, int, int]
    weight: tuple[int, int, int]
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    epilogue: tuple = REQUANTISE
    config: Config = PYNQ
    extreme_bias: bool = False


CASES = {
    "digits-1": Case((3, 16, 8, 8), (32, 3, 3), padding=(1, 1, 1, 1)),
    "digits-2-stride-2": Case((3, 32, 8, 8), (48, 3, 3), (2, 2), (1, 1, 1, 1)),
    "digits-3": Case((3, 48, 4, 4), (48, 3, 3), padding=(1, 1, 1, 1)),
    "digits-4-pointwise": Case((3, 48, 4, 4), (64, 1, 1)),
    "one-element": Case((1, 16, 1, 1), (16, 1, 1), epilogue=(("shr", 9),)),
    "no-epilogue": Case((1, 16, 4, 4), (16, 3, 3), epilogue=()),
    "asymmetric-padding": Case((2, 16, 5, 7), (16, 3, 3), (1, 1), (0, 1, 2, 0)),
    "asymmetric-padding-stride-2": Case((2, 16, 6, 5), (16, 3, 4), (2, 2), (2, 0, 0, 3)),
    "strides-2-by-3": Case((1, 16, 9, 11), (16, 3, 2), (2, 3), (1, 1, 1, 1)),
    "rows-that-no-result-needs": Case((1, 16, 8, 8), (16, 3, 3), (3, 3), (0, 0, 1, 1)),
    "kernel-1-by-5": Case((1, 16, 3, 9), (16, 1, 5), padding=(0, 2, 0, 2)),
    "kernel-as-large-as-the-data": Case((2, 32, 4, 5), (16, 4, 5), epilogue=SIGNED),
    "pad-only-corners": Case((1, 16, 1, 1), (16, 3, 3), padding=(1, 1, 1, 1), epilogue=SIGNED),
    "bias-at-the-int32-ends": Case((2, 16, 4, 4), (16, 3, 3), epilogue=SIGNED, extreme_bias=True),
    "sum-that-wraps-before-max": Case(
        (2, 16, 4, 4),
        (16, 3, 3),
        epilogue=(("add", 32767), ("add", "bias"), ("max", 0), ("shr", 14)),
        extreme_bias=True,
    ),
    "product-that-wraps-before-min": Case(
        (2, 16, 4, 4),
        (16, 3, 3),
        epilogue=(
            ("mul", 2),
            ("mul", "bias"),
            ("shr", 1),
            ("add", 77),
            ("mul", 32767),
            ("min", -1),
            ("shr", 13),
        ),
        extreme_bias=True,
    ),
    "two-tensors-and-mul": Case(
        (1, 32, 4, 4), (32, 3, 3), epilogue=(("add", "bias"), ("mul", "scale"), ("shr", 13), ("add", "bias"))
    ),
    "resnet-C8-row": Case((1, 256, 4, 14), (32, 3, 3), padding=(1, 1, 1, 1), epilogue=SIGNED),
    "wide-image-cut-into-rows": Case((1, 16, 40, 56), (16, 3, 3), padding=(1, 1, 1, 1), epilogue=SIGNED),
    "batch-4-block-8": Case((8, 16, 6, 6), (24, 3, 3), (1, 1), (1, 1, 1, 1), SIGNED, BATCHED),
    "tiny-memories": Case((2, 16, 6, 6), (12, 3, 3), (1, 1), (1, 1, 1, 1), SIGNED, TINY),
    "tiny-memories-stride-2": Case((1, 12, 9, 9), (20, 3, 3), (2, 2), (1, 1, 1, 1), SIGNED, TINY),
    "tiny-memories-wide": Case((1, 8, 4, 30), (8, 3, 3), (1, 1), (1, 1, 1, 1), SIGNED, TINY),
    "micro-ops-replaced": Case((2, 16, 6, 6), (12, 3, 3), (1, 1), (1, 1, 1, 1), SIGNED, FEW_UOPS),
}


def build(case: Case):
    """The case's packed shapes, its options, operands by name, and the result as NumPy has it."""
    rng = np.random.default_rng(abs(hash((case.data, case.weight))) % 2**32)
    b, c = case.config.batch, case.config.block
    data = reference.full_range(rng, case.data)
    weight = reference.full_range(rng, (case.weight[0], case.data[1], *case.weight[1:]))
    names = dict.fromkeys(operand for _, operand in case.epilogue if isinstance(operand, str))
    if case.extreme_bias:
        tensors = {
            name: rng.choice([-(2**31), 2**31 - 1, 3], (b, case.weight[0])).astype(np.int32) for name in names
        }
    else:
        tensors = {name: rng.integers(-5000, 5000, (b, case.weight[0])).astype(np.int32) for name in names}
    arrays = {
        "data": reference.pack_data(data, b, c),
        "weight": reference.pack_data(weight, c, c),
        **{name: reference.pack_tensor(tensor, c) for name, tensor in tensors.items()},
    }
    acc = reference.convolution(data, weight, case.strides, case.padding)
    options = {
        "strides": case.strides,
        "padding": case.padding,
        "epilogue": case.epilogue,
        "config": case.config,
    }
    return arrays, options, reference.epilogue(acc, case.epilogue, tensors)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_program_computes_the_convolution(case):
    arrays, options, expected = build(case)
    program = load(conv2d(arrays["data"].shape, arrays["weight"].shape, **options).to_bytes())
    assert [each.name for each in program.arguments] == list(arrays)
    outputs, report = program.run(Machine(case.config), arrays)
    np.testing.assert_array_equal(reference.unpack_data(outputs["out"]), expected)
    assert len(np.unique(expected)) > 10
    assert {each.kind for each in report.findings} <= {"lossy-store"}
    assert report.counters == program.counters
    n, co, h, w = expected.shape
    taps = case.weight[1] * case.weight[2]
    blocks = (n // case.config.batch) * (co // case.config.block) * (case.data[1] // case.config.block)
    assert report.counters["gemm_counter"] == blocks * taps * h * w


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_description_computes_the_same_bytes_on_this_cpu(case):
    arrays, options, expected = build(case)
    function = conv2d_primfunc(arrays["data"].shape, arrays["weight"].shape, **options)
    module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    packed = np.zeros_like(reference.pack_data(expected, case.config.batch, case.config.block))
    tensors = [tvm.runtime.tensor(each) for each in (*arrays.values(), packed)]
    tvm.compile(module, target="llvm")["main"](*tensors)
    np.testing.assert_array_equal(reference.unpack_data(tensors[-1].numpy()), expected)


def test_a_256_image_batch_goes_through_one_stream_and_leaves_the_machine_as_it_was():
    case = Case((256, 16, 8, 8), (32, 3, 3), padding=(1, 1, 1, 1))
    arrays, options, expected = build(case)
    program = conv2d(arrays["data"].shape, arrays["weight"].shape, **options)
    machine = Machine()
    for _ in range(2):
        outputs, report = program.run(machine, arrays)
        np.testing.assert_array_equal(reference.unpack_data(outputs["out"]), expected)
        assert report.findings == []
    assert program.counters["wgt_load_nbytes"] == 32 * 16 * 9, "weights are loaded once for all images"


def test_onnxruntime_has_the_same_accumulators():
    rng = np.random.default_rng(5)
    data, weight = reference.full_range(rng, (2, 16, 5, 6)), reference.full_range(rng, (16, 16, 3, 3))
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("ConvInteger", ["x", "w"], ["y"], pads=[1, 0, 0, 2], strides=[2, 1])],
        "conv",
        [
            onnx.helper.make_tensor_value_info("x", onnx.TensorProto.INT8, data.shape),
            onnx.helper.make_tensor_value_info("w", onnx.TensorProto.INT8, weight.shape),
        ],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT32, None)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (acc,) = session.run(None, {"x": data, "w": weight})
    np.testing.assert_array_equal(acc, reference.convolution(data, weight, (2, 1), (1, 0, 0, 2)))
    packed = reference.pack_data(data, 1, 16), reference.pack_data(weight, 16, 16)
    # Four bytes of the accumulator, one program for each.
    for shift in (0, 8, 16, 24):
        program = conv2d(
            packed[0].shape, packed[1].shape, strides=(2, 1), padding=(1, 0, 0, 2), epilogue=[("shr", shift)]
        )
        outputs, _ = program.run(Machine(), {"data": packed[0], "weight": packed[1]})
        np.testing.assert_array_equal(reference.unpack_data(outputs["out"]), (acc >> shift).astype(np.int8))


def test_padding_is_done_by_the_loads():
    program = conv2d((1, 1, 8, 8, 1, 16), (1, 1, 3, 3, 16, 16), padding=(1, 1, 1, 1))
    loads = [each for each in isa.decode(program.insns) if isinstance(each, isa.Load)]
    data = [each for each in loads if each.memory_type == isa.Memory.INP]
    for pad in ("y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1"):
        assert {getattr(each, pad) for each in data} <= {0, 1}
        assert any(getattr(each, pad) for each in data)
    # Each part of the result is computed from two lines more than it has.
    sizes = [
        (each.y_size + each.y_pad_0 + each.y_pad_1, each.x_size + each.x_pad_0 + each.x_pad_1)
        for each in data
    ]
    assert sum((high - 2) * (wide - 2) for high, wide in sizes) == 8 * 8
    assert program.counters["inp_load_nbytes"] == sum(each.y_size * each.x_size for each in data) * 16


@pytest.mark.parametrize(
    ("data", "weight", "options", "words"),
    [
        (
            (1, 1, 8, 8, 16),
            (1, 1, 3, 3, 16, 16),
            {},
            r"data \(1, 1, 8, 8, 16\) is not packed as \(N/1, C/16, H, W",
        ),
        ((1, 1, 8, 8, 2, 16), (1, 1, 3, 3, 16, 16), {}, "data .* is not packed"),
        ((0, 1, 8, 8, 1, 16), (1, 1, 3, 3, 16, 16), {}, "data .* is not packed"),
        ((1, 1, 8, 8, 1, 16), (1, 1, 3, 3, 16, 8), {}, "weight .* is not packed as"),
        (
            (1, 2, 8, 8, 1, 16),
            (1, 3, 3, 3, 16, 16),
            {},
            "weight has 3 blocks of input channels, and data has 2",
        ),
        ((1, 1, 8, 8, 1, 16), (1, 1, 3, 3, 16, 16), {"strides": (0, 1)}, "strides"),
        (
            (1, 1, 8, 8, 1, 16),
            (1, 1, 3, 3, 16, 16),
            {"padding": (1, 1)},
            r"is not \(top, left, bottom, right\)",
        ),
        (
            (1, 1, 8, 8, 1, 16),
            (1, 1, 3, 3, 16, 16),
            {"padding": (3, 0, 0, 0)},
            "padding 3, 0 of the height: 0 to 2",
        ),
        ((1, 1, 8, 8, 1, 16), (1, 1, 3, 3, 16, 16), {"padding": (0, 0, 0, -1)}, "padding 0, -1 of the width"),
        ((1, 1, 30, 8, 1, 16), (1, 1, 20, 3, 16, 16), {"padding": (16, 0, 0, 0)}, "0 to 15"),
        ((1, 1, 2, 8, 1, 16), (1, 1, 3, 3, 16, 16), {}, "kernel 3 is larger than the padded height 2"),
        (
            (1, 1, 90, 90, 1, 16),
            (1, 1, 46, 46, 16, 16),
            {},
            "INP: the smallest tile takes 2116 elements, and 2048 fit",
        ),
        (
            (1, 1, 90, 90, 1, 16),
            (1, 1, 33, 33, 16, 16),
            {},
            "WGT: the smallest tile takes 1089 elements, and 1024",
        ),
    ],
    ids=[
        "rank",
        "batch",
        "empty",
        "block",
        "channels",
        "stride",
        "two-pads",
        "pad-as-large-as-the-kernel",
        "negative-pad",
        "pad-beyond-its-field",
        "kernel-too-large",
        "window-beyond-inp",
        "kernel-beyond-wgt",
    ],
)
def test_a_layer_that_vta_cannot_take_is_one_error(data, weight, options, words):
    with pytest.raises(ValueError, match=words):
        conv2d(data, weight, **options)
    if "tile" not in words:
        with pytest.raises(ValueError, match=words):
            conv2d_primfunc(data, weight, **options)


def test_accumulators_that_do_not_fit_are_an_error():
    config = Config(LOG_ACC_BUFF_SIZE=7)
    tensors = [("add", "bias"), ("mul", "scale")]
    with pytest.raises(ValueError, match="ACC: the smallest tile takes 3 elements, and 2 fit"):
        conv2d((1, 1, 4, 4, 1, 16), (1, 1, 1, 1, 16, 16), epilogue=tensors, config=config)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (("add", 32768), "an immediate of add is a number from -32768 to 32767"),
        (("min", -32769), "an immediate of min is a number from -32768 to 32767"),
        (("shr", 32), "an immediate of shr is a number from 0 to 31"),
        (("shr", -1), "an immediate of shr is a number from 0 to 31"),
        (("shr", "bias"), "shr takes an immediate"),
        (("add", 1.0), "an immediate of add"),
        (("add", True), "an immediate of add"),
        (("sub", 1), "an operation of add, mul, min, max, shr"),
        (("add",), "not \\(operation, operand\\)"),
        (("add", "data"), "cannot name a tensor"),
        (("add", "a b"), "cannot name a tensor"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_an_epilogue_step_that_vta_has_not_is_one_error(step, words):
    for make in (conv2d, conv2d_primfunc):
        with pytest.raises(ValueError, match=f"epilogue step 1 .*{words}"):
            make((1, 1, 4, 4, 1, 16), (1, 1, 1, 1, 16, 16), epilogue=[("max", 0), step])


TILES = {
    "digits": ((256, 3, 4, 4), (3, 3, 3, 3), PYNQ),
    "deep": ((1, 32, 7, 7), (32, 32, 3, 3), PYNQ),
    "wide": ((1, 4, 56, 56), (4, 4, 3, 3), PYNQ),
    "tiny": ((2, 4, 6, 6), (3, 4, 3, 3), TINY),
}


@pytest.mark.parametrize(("data", "weight", "config"), TILES.values(), ids=TILES)
def test_a_tile_is_there_twice_and_fits(data, weight, config):
    b, c = config.batch, config.block
    layer = Convolution.of((*data, b, c), (*weight, c, c), (1, 1), (1, 1, 1, 1), config)
    tile = choose_tile(layer, Extra(tensors=1), config)
    assert tile.threads == 2
    need = needs(layer, tile, Extra(tensors=1))
    assert need["INP"] <= config.inp_depth
    assert need["WGT"] <= config.wgt_depth
    assert need["ACC"] <= config.acc_depth


def test_weights_stay_where_they_fit():
    layer = Convolution.of((256, 3, 4, 4, 1, 16), (3, 3, 3, 3, 16, 16), (1, 1), (1, 1, 1, 1), PYNQ)
    tile = choose_tile(layer, Extra(tensors=1), PYNQ)
    assert (tile.outputs, tile.inputs, tile.rows, tile.columns) == (3, 3, 4, 4)
    program = conv2d((256, 3, 4, 4, 1, 16), (3, 3, 3, 3, 16, 16), padding=(1, 1, 1, 1))
    assert program.counters["wgt_load_nbytes"] == 3 * 3 * 9 * 256
