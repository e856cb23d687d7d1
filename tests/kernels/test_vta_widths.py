"""Generators write int8 and int32: a configuration of other widths is refused."""

import pytest

from kernels.vta import conv2d, dense
from simulators.vta import Config


@pytest.mark.parametrize(
    ("keys", "widths"),
    [
        ({"LOG_INP_WIDTH": 2, "LOG_INP_BUFF_SIZE": 14, "LOG_ACC_BUFF_SIZE": 17}, "(4, 8, 32)"),
        ({"LOG_WGT_WIDTH": 4, "LOG_WGT_BUFF_SIZE": 18}, "(8, 16, 32)"),
        ({"LOG_ACC_WIDTH": 4, "LOG_ACC_BUFF_SIZE": 16}, "(8, 8, 16)"),
    ],
    ids=["data", "weights", "accumulators"],
)
def test_another_width_is_an_error_that_names_it(keys, widths):
    config = Config(**keys)
    with pytest.raises(ValueError, match="of 8, 8 and 32 bits, not") as error:
        conv2d((1, 1, 4, 4, 1, 16), (1, 1, 1, 1, 16, 16), config=config)
    assert widths in str(error.value)
    with pytest.raises(ValueError, match="of 8, 8 and 32 bits, not"):
        dense((1, 1, 1, 16), (1, 1, 16, 16), config=config)
