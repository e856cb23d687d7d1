"""The witness of VTA's layers: plain int64 NumPy on unpacked tensors, and operands over the full range."""

import numpy as np


def wrap32(value: np.ndarray) -> np.ndarray:
    return (value + 2**31) % 2**32 - 2**31


def convolution(data, weight, strides, padding) -> np.ndarray:
    """data (N, C, H, W), weight (O, C, KH, KW); padding top, left, bottom, right. Returns int64."""
    top, left, bottom, right = padding
    padded = np.pad(data.astype(np.int64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], axis=(2, 3))
    windows = windows[:, :, :: strides[0], :: strides[1]]
    return np.einsum("nchwyx,ocyx->nohw", windows, weight.astype(np.int64), optimize=True)


def transposed_convolution(data, weight, strides, padding, output_padding) -> np.ndarray:
    """data (N, C, H, W), weight (C, O, KH, KW); each datum adds its multiple of the kernel. Returns int64."""
    extents = [
        (size - 1) * stride + kernel + extra
        for size, stride, kernel, extra in zip(
            data.shape[2:], strides, weight.shape[2:], output_padding, strict=True
        )
    ]
    result = np.zeros((len(data), weight.shape[1], *extents), np.int64)
    for y in range(data.shape[2]):
        for x in range(data.shape[3]):
            added = np.einsum("nc,coyx->noyx", data[:, :, y, x].astype(np.int64), weight.astype(np.int64))
            top, left = y * strides[0], x * strides[1]
            result[:, :, top : top + weight.shape[2], left : left + weight.shape[3]] += added
    top, left, bottom, right = padding
    return result[:, :, top : extents[0] - bottom, left : extents[1] - right]


def epilogue(value: np.ndarray, steps, tensors) -> np.ndarray:
    """Applies the steps to (N, O, ...) int64; a tensor has one number for each (row of a batch block, O)."""
    return (epilogue_wide(value, steps, tensors) & 255).astype(np.uint8).view(np.int8)


def epilogue_wide(value: np.ndarray, steps, tensors) -> np.ndarray:
    """The same, before the result loses its high bits."""
    for operation, named in steps:
        operand = named
        if isinstance(named, str):
            per_channel = tensors[named].astype(np.int64)
            rows = np.arange(len(value)) % per_channel.shape[0]
            operand = per_channel[rows].reshape(*value.shape[:2], *[1] * (value.ndim - 2))
        match operation:
            case "add":
                value = wrap32(value + operand)
            case "mul":
                value = wrap32(value * operand)
            case "min":
                value = np.minimum(value, operand)
            case "max":
                value = np.maximum(value, operand)
            case "shr":
                value = value >> operand
    return value


def pack_data(data: np.ndarray, batch: int, block: int) -> np.ndarray:
    """(N, C, ...) as (N/b, C/c, ..., b, c)."""
    n, c, *rest = data.shape
    split = data.reshape(n // batch, batch, c // block, block, *rest)
    return np.ascontiguousarray(np.moveaxis(split, (1, 3), (-2, -1)))


def unpack_data(packed: np.ndarray) -> np.ndarray:
    """The way back from pack_data."""
    split = np.moveaxis(packed, (-2, -1), (1, 3))
    return split.reshape(split.shape[0] * split.shape[1], split.shape[2] * split.shape[3], *split.shape[4:])


def pack_tensor(tensor: np.ndarray, block: int, *, positions: int = 2) -> np.ndarray:
    """(b, O) as (O/c, 1, 1, b, c), or with positions=0, for a dense layer, as (O/c, b, c)."""
    batch, outputs = tensor.shape
    packed = tensor.reshape(batch, outputs // block, block).transpose(1, 0, 2)
    return np.ascontiguousarray(packed.reshape(outputs // block, *[1] * positions, batch, block))


def full_range(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """int8 over the full range, a tenth of it corners."""
    values = rng.integers(-128, 128, shape)
    corners = rng.choice([-128, 127, -1], shape)
    return np.where(rng.random(shape) < 0.1, corners, values).astype(np.int8)
