"""dense on packed tensors as a VTA program."""

from collections.abc import Sequence

from kernels.vta.compiler import compile_program
from kernels.vta.epilogue import Epilogue, Extra
from kernels.vta.gemm import choose_tile, schedule_gemm
from kernels.vta.layers import Product
from kernels.vta.tensorir import dense_primfunc
from simulators.vta.config import PYNQ, Config
from simulators.vta.program import Program


def dense(
    data_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    epilogue: Epilogue = (),
    config: Config = PYNQ,
) -> Program:
    """Compile data · weightᵀ, int8 to int8 with int32 accumulators.

    data (M/b, K/c, b, c) and weight (O/c, K/c, c, c), out before in, are int8; the result "out" is int8
    (M/b, O/c, b, c), the low 8 bits of the accumulators after the epilogue (kernels.vta.epilogue; its
    tensors are (O/c, b, c)). The arguments are "data", "weight", the epilogue's tensors and its residuals.
    ValueError names a shape or step that does not fit, or the memory that cannot hold a tile.
    """
    layer = Product.of(data_shape, weight_shape, config).convolution
    function = dense_primfunc(data_shape, weight_shape, epilogue=epilogue, config=config)
    tile = choose_tile(layer, Extra.of(epilogue), config)
    return compile_program(schedule_gemm(function, layer, tile), config)
