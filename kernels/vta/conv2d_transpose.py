"""Transposed conv2d on packed tensors as a VTA program: phase by phase, without the zeros in between."""

from collections.abc import Sequence

from kernels.vta.compiler import compile_program
from kernels.vta.epilogue import Epilogue, Extra
from kernels.vta.gemm import choose_tile, schedule_gemm
from kernels.vta.layers import Convolution
from kernels.vta.tensorir import conv2d_transpose_primfunc
from simulators.vta.config import PYNQ, Config
from simulators.vta.program import Program


def conv2d_transpose(
    data_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    output_padding: tuple[int, int] = (0, 0),
    groups: int = 1,
    epilogue: Epilogue = (),
    config: Config = PYNQ,
) -> Program:
    """Compile a transposed convolution, int8 to int8 with int32 accumulators.

    data (N/b, C/c, H, W, b, c) and weight (C/c, O/c, KH, KW, c, c), in channel blocks before out channel
    blocks and within a block out before in, are int8; the result "out" is int8 (N/b, O/c, OH, OW, b, c), the
    low 8 bits after the epilogue (kernels.vta.epilogue). OH is (H - 1) * stride + KH - top - bottom +
    output_padding; padding is top, left, bottom, right. With groups, one a block of out channels, weight is
    (C/c, 1, KH, KW, c, c).

    With strides (s, t) each of the s * t phases of the result is an ordinary convolution with every s-th row
    and t-th column of the kernel, so that there are no more products than a convolution of the data has.
    ValueError names what does not fit, as that of kernels.vta.conv2d.
    """
    layer = Convolution.transposed(
        data_shape, weight_shape, strides, padding, output_padding, config, groups=groups
    )
    function = conv2d_transpose_primfunc(
        data_shape,
        weight_shape,
        strides=strides,
        padding=padding,
        output_padding=output_padding,
        groups=groups,
        epilogue=epilogue,
        config=config,
    )
    tile = choose_tile(layer, Extra.of(epilogue), config)
    return compile_program(schedule_gemm(function, layer, tile), config)
