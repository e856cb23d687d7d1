"""conv2d on packed tensors as a VTA program."""

from collections.abc import Sequence

from kernels.vta.compiler import compile_program
from kernels.vta.epilogue import Epilogue, Extra
from kernels.vta.gemm import choose_tile, schedule_gemm
from kernels.vta.layers import Convolution
from kernels.vta.tensorir import conv2d_primfunc
from simulators.vta.config import PYNQ, Config
from simulators.vta.program import Program


def conv2d(
    data_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    groups: int = 1,
    epilogue: Epilogue = (),
    config: Config = PYNQ,
) -> Program:
    """Compile a convolution, int8 to int8 with int32 accumulators.

    data (N/b, C/c, H, W, b, c) and weight (O/c, C/c, KH, KW, c, c), out channel before in channel, are int8;
    the result "out" is int8 (N/b, O/c, OH, OW, b, c), the low 8 bits of the accumulators after the epilogue
    (kernels.vta.epilogue). padding is top, left, bottom, right, of zeros; dilation is 1. With groups, one a
    block of out channels, weight is (O/c, C/c/groups, KH, KW, c, c); a depthwise convolution has diagonal
    weights in groups of one block. The arguments are "data", "weight", the epilogue's tensors and its
    residuals. ValueError names a shape, pad or step that
    does not fit, or the memory that cannot hold the smallest tile, its need and its limit.
    """
    layer = Convolution.of(data_shape, weight_shape, strides, padding, config, groups=groups)
    function = conv2d_primfunc(
        data_shape,
        weight_shape,
        strides=strides,
        padding=padding,
        groups=groups,
        epilogue=epilogue,
        config=config,
    )
    tile = choose_tile(layer, Extra.of(epilogue), config)
    return compile_program(schedule_gemm(function, layer, tile), config)
