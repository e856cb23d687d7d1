"""NCHW1n16c convolution and dense layers as VTA's GEMM, and what follows them as ALU instructions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bench.evaluate.instructions.windows import taps
from bench.evaluate.registry import Evaluator, OperatorCall
from simulators.vta import models


def conv2d(call: OperatorCall) -> np.ndarray:
    """NCHW{b}n{c}c data and OIHW{c}o{c}i weights: int32 (N/b, O/c, OH, OW, b, c)."""
    data, weight = call.arguments
    if data.ndim != 6:
        return call.default()
    assert call.shape is not None
    images, out_blocks, out_height, out_width, rows, block = call.shape
    in_blocks, kernel_height, kernel_width = weight.shape[1:4]
    groups = call.attributes["groups"]
    # One GEMM for each tap: of all pixels by the input channels of a group, and these by its output channels.
    accumulator = np.zeros(
        (groups, images * out_height * out_width * rows, out_blocks // groups * block), np.int32
    )
    for y, x, window in taps(call, data, (kernel_height, kernel_width), (out_height, out_width), axes=(2, 3)):
        tiles = window.reshape(images, groups, in_blocks, out_height, out_width, rows, block)
        pixels = tiles.transpose(1, 0, 3, 4, 5, 2, 6).reshape(*accumulator.shape[:2], in_blocks * block)
        filters = weight[:, :, y, x].swapaxes(1, 2).reshape(groups, accumulator.shape[2], in_blocks * block)
        accumulator = models.gemm(accumulator, pixels, filters)
    result = accumulator.reshape(groups, images, out_height, out_width, rows, out_blocks // groups, block)
    return result.transpose(1, 0, 5, 2, 3, 4, 6).reshape(call.shape)


def conv2d_transpose(call: OperatorCall) -> np.ndarray:
    """NCHW{b}n{c}c data and IOHW{c}o{c}i weights: each tap adds a GEMM of all data to its own results."""
    data, weight = call.arguments
    if data.ndim != 6:
        return call.default()
    assert call.shape is not None
    images, out_blocks, out_height, out_width, rows, block = call.shape
    in_blocks, height, width = data.shape[1:4]
    groups, (down, right) = call.attributes["groups"], call.attributes["strides"]
    (top, left), own = call.attributes["padding"][:2], out_blocks // groups
    kernel_height, kernel_width = weight.shape[2:4]
    # All results that any tap reaches, and those that are asked for: one may exceed the other.
    tall = max((height - 1) * down + kernel_height, top + out_height)
    wide = max((width - 1) * right + kernel_width, left + out_width)
    canvas = np.zeros((groups, images, tall, wide, rows, own * block), np.int32)
    tiles = data.reshape(images, groups, in_blocks // groups, height, width, rows, block)
    pixels = tiles.transpose(1, 0, 3, 4, 5, 2, 6).reshape(groups, -1, in_blocks // groups * block)
    for y in range(kernel_height):
        for x in range(kernel_width):
            taps = weight[:, :, y, x].reshape(groups, in_blocks // groups, own, block, block)
            filters = taps.transpose(0, 2, 3, 1, 4).reshape(groups, own * block, -1)
            here = canvas[
                :, :, y : y + (height - 1) * down + 1 : down, x : x + (width - 1) * right + 1 : right
            ]
            sums = models.gemm(here.reshape(groups, -1, own * block), pixels, filters)
            here[...] = sums.reshape(here.shape)
    result = canvas[:, :, top : top + out_height, left : left + out_width]
    result = result.reshape(groups, images, out_height, out_width, rows, own, block)
    return result.transpose(1, 0, 5, 2, 3, 4, 6).reshape(call.shape)


def dense(call: OperatorCall) -> np.ndarray:
    """Data NC{b}n{c}c and weights NC{c}n{c}c: int32 (N/b, units/c, b, c)."""
    data, weight = call.arguments
    if data.ndim != 4:
        return call.default()
    assert call.shape is not None
    images, out_blocks, rows, block = call.shape
    accumulator = np.zeros((images * rows, out_blocks * block), np.int32)
    vectors = data.swapaxes(1, 2).reshape(images * rows, -1)
    filters = weight.swapaxes(1, 2).reshape(out_blocks * block, -1)
    result = models.gemm(accumulator, vectors, filters).reshape(images, rows, out_blocks, block)
    return result.swapaxes(1, 2)


def _alu(opcode: str) -> Evaluator:
    """An elementwise operator inside a kernel, as the ALU instruction that computes it."""

    def evaluate(call: OperatorCall) -> np.ndarray:
        if not _inside_kernel(call):
            return call.default()
        values, operand = call.arguments
        return models.alu(opcode, values, np.broadcast_to(operand, values.shape))

    return evaluate


def clip(call: OperatorCall) -> np.ndarray:
    """MIN, then MAX: VTA has no clip."""
    if not _inside_kernel(call):
        return call.default()
    values, low, high = call.arguments
    return models.alu("max", models.alu("min", values, int(high)), int(low))


def relu(call: OperatorCall) -> np.ndarray:
    """MAX with 0."""
    return models.alu("max", call.arguments[0], 0) if _inside_kernel(call) else call.default()


def max_pool2d(call: OperatorCall) -> np.ndarray:
    """MAX with each tap of the windows, from the lowest int8 on, which is in the padding too."""
    (data,) = call.arguments
    if "/" not in call.name or data.dtype != np.int8:
        return call.default()
    assert call.shape is not None
    lowest = np.iinfo(np.int8).min
    greatest = np.full(call.shape, lowest, np.int32)
    height, width = call.attributes["pool_size"]
    extents = call.shape[2], call.shape[3]
    for _, _, each in taps(call, data, (height, width), extents, axes=(2, 3), fill=lowest):
        greatest = models.alu("max", greatest, each.astype(np.int32))
    return greatest.astype(np.int8)


def total(call: OperatorCall) -> np.ndarray:
    """ADD of each pixel to the first."""
    if not _inside_kernel(call):
        return call.default()
    (data,) = call.arguments
    assert call.shape is not None
    pixels = data.reshape(*data.shape[:2], -1, *data.shape[4:])
    sums = np.zeros_like(pixels[:, :, 0])
    for pixel in range(pixels.shape[2]):
        sums = models.alu("add", sums, pixels[:, :, pixel])
    return sums.reshape(call.shape)


def store(call: OperatorCall) -> np.ndarray:
    """The cast to int8 that ends a kernel: STORE writes the low 8 bits."""
    if not _inside_kernel(call):
        return call.default()
    return call.arguments[0].astype(np.int32).view(np.uint32).astype(np.uint8).view(np.int8)


def _inside_kernel(call: OperatorCall) -> bool:
    """Bindings of a function that ``main`` calls are named ``binding/inner``."""
    return "/" in call.name and call.arguments[0].dtype == np.int32


OVERRIDES: Mapping[str, Evaluator] = {
    "relax.nn.conv2d": conv2d,
    "relax.nn.conv2d_transpose": conv2d_transpose,
    "bitexact.dense": dense,
    "relax.add": _alu("add"),
    "relax.maximum": _alu("max"),
    "relax.minimum": _alu("min"),
    "relax.multiply": _alu("mul"),
    "relax.right_shift": _alu("shr"),
    "relax.clip": clip,
    "relax.nn.max_pool2d": max_pool2d,
    "relax.nn.relu": relu,
    "relax.sum": total,
    "relax.astype": store,
}
