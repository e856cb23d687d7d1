"""What a configuration derives, and which ones are refused."""

import json

import pytest

from simulators.vta import Config


def test_the_default_is_the_pynq_sample():
    config = Config()
    assert config.bitstream == "1x16_i8w8a32_15_15_18_17"
    assert (config.uop_depth, config.inp_depth, config.wgt_depth, config.acc_depth) == (
        8192,
        2048,
        1024,
        2048,
    )
    assert (config.uop_bits, config.inp_bits, config.wgt_bits, config.acc_bits) == (13, 11, 10, 11)
    assert (config.inp_bytes, config.wgt_bytes, config.acc_bytes) == (16, 256, 64)


def test_the_batched_configuration_of_a_simulator_build():
    config = Config(
        LOG_BATCH=2,
        LOG_BLOCK=3,
        LOG_UOP_BUFF_SIZE=15,
        LOG_INP_BUFF_SIZE=16,
        LOG_WGT_BUFF_SIZE=16,
        LOG_ACC_BUFF_SIZE=18,
    )
    assert (config.batch, config.block) == (4, 8)
    assert (config.inp_depth, config.wgt_depth, config.acc_depth) == (2048, 1024, 2048)


def test_a_configuration_file_is_read_with_the_keys_that_mean_nothing_here():
    sizes = {"LOG_BLOCK": 3, "LOG_INP_BUFF_SIZE": 14, "LOG_WGT_BUFF_SIZE": 16, "LOG_ACC_BUFF_SIZE": 16}
    keys = {"TARGET": "sim", "HW_VER": "0.0.1", **sizes}
    config = Config.from_json(json.dumps(keys))
    assert (config.TARGET, config.block) == ("sim", 8)
    assert config == Config(**sizes), "TARGET does not make another machine"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"LOG_BLOCK": "4"}, "LOG_BLOCK is '4', not a number from 0 to 30"),
        ({"LOG_BATCH": -1}, "LOG_BATCH is -1"),
        ({"LOG_ACC_BUFF_SIZE": 31}, "LOG_ACC_BUFF_SIZE is 31"),
        ({"LOG_INP_WIDTH": 5}, "LOG_INP_WIDTH is 5, and 1 to 4 is supported"),
        ({"LOG_WGT_WIDTH": 0}, "LOG_WGT_WIDTH is 0, and 1 to 4 is supported"),
        ({"LOG_ACC_WIDTH": 3}, "LOG_ACC_WIDTH is 3, and 4 to 5 is supported"),
        ({"LOG_INP_WIDTH": 4, "LOG_ACC_WIDTH": 4}, "numbers of 16 bits and accumulators of 16"),
        ({"LOG_INP_WIDTH": 1, "LOG_BLOCK": 1}, "an element of INP is less than one byte"),
        ({"LOG_WGT_BUFF_SIZE": 8}, "LOG_WGT_BUFF_SIZE holds fewer than two elements of 256 bytes"),
        ({"LOG_BLOCK": 7, "LOG_WGT_BUFF_SIZE": 20}, "an element of WGT has 16384 bytes"),
        ({"LOG_INP_BUFF_SIZE": 22}, "LOG_INP_BUFF_SIZE holds 2^18 elements"),
        ({"LOG_UOP_BUFF_SIZE": 16}, "the first word of GEMM and ALU: 65 bits do not fit 64"),
        ({"LOG_ACC_BUFF_SIZE": 18, "LOG_INP_BUFF_SIZE": 16}, "a micro-op: 34 bits do not fit 32"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_configuration_that_does_not_add_up_is_one_error(keys, words):
    with pytest.raises(ValueError, match="not a VTA configuration") as error:
        Config(**keys)
    assert words in str(error.value)


def test_one_error_lists_all_that_is_wrong():
    with pytest.raises(ValueError, match=r"LOG_INP_BUFF_SIZE.*; .*LOG_WGT_BUFF_SIZE"):
        Config(LOG_INP_BUFF_SIZE=3, LOG_WGT_BUFF_SIZE=8)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[1]", "not an object"),
        ('{"LOG_BLCK": 4}', r"unknown keys \['LOG_BLCK'\]; the keys are"),
    ],
    ids=["not-json", "not-an-object", "unknown-key"],
)
def test_a_bad_configuration_file_is_one_error(text, words):
    with pytest.raises(ValueError, match=words):
        Config.from_json(text)
