"""What the tensor-core layers mean, in plain NumPy on unpacked operands, and the packing of weights."""

from dataclasses import dataclass

import numpy as np

from kernels.tensorcore.tile import default_tile


@dataclass(frozen=True)
class Conv:
    """One convolution: sizes in elements, padding (top, left, bottom, right)."""

    height: int
    width: int
    batch: int
    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    dtype: str = "int8"
    weight_dtype: str | None = None

    @property
    def of_weight(self):
        return self.weight_dtype or self.dtype

    @property
    def data_shape(self):
        return (self.height, self.width, self.batch, self.in_channels)

    @property
    def weight_shape(self):
        """HWOI, unpacked."""
        return (*self.kernel, self.out_channels, self.in_channels)

    def options(self):
        names = ("out_channels", "kernel", "strides", "padding", "dilation", "dtype", "weight_dtype")
        return {name: getattr(self, name) for name in names}


def wrap(values):
    """Integers mod 2^32, as int32."""
    return (np.asarray(values, np.int64) & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


def conv2d(conv, data, weight):
    """HWNC by HWOI to HWNC int32: one product of matrices for each place of the kernel, summed in int64.

    A product is one of float64 matrices: its sums stay below 2^53 up to 2^37 input channels of uint8.
    """
    top, left, bottom, right = conv.padding
    padded = np.pad(data.astype(np.int64), ((top, bottom), (left, right), (0, 0), (0, 0)))
    reach = [(k - 1) * d + 1 for k, d in zip(conv.kernel, conv.dilation, strict=True)]
    out_height = (padded.shape[0] - reach[0]) // conv.strides[0] + 1
    out_width = (padded.shape[1] - reach[1]) // conv.strides[1] + 1
    total = np.zeros((out_height, out_width, conv.batch, conv.out_channels), np.int64)
    for ky, kx in np.ndindex(*conv.kernel):
        y, x = ky * conv.dilation[0], kx * conv.dilation[1]
        seen = padded[y :: conv.strides[0], x :: conv.strides[1]][:out_height, :out_width]
        total += (seen.astype(np.float64) @ weight[ky, kx].astype(np.float64).T).astype(np.int64)
    return wrap(total)


RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int4": (-8, 7), "uint4": (0, 15)}


def stored(values, dtype):
    """Operands as the kernels take them: of a 4-bit type, words of eight with element 0 the lowest nibble."""
    if dtype not in ("int4", "uint4"):
        return np.ascontiguousarray(values).astype(dtype)
    nibbles = (values.astype(np.int64) & 15).reshape(*values.shape[:-1], -1, 8)
    return (nibbles << (4 * np.arange(8))).sum(-1).astype(np.uint32).view(np.int32)


def pack(weight, dtype="int8", tile=None):
    """(..., OC, IC) to (..., OC/n, IC/k, n, k): HWOI to HWOI32o16i or HWOI8o32i, NK likewise."""
    tile = tile or default_tile(dtype)
    *lead, out_channels, in_channels = weight.shape
    split = weight.reshape(*lead, out_channels // tile.n, tile.n, in_channels // tile.k, tile.k)
    return stored(np.swapaxes(split, -3, -2), dtype)


def operands(shape, dtype, seed):
    """Full-range values with the ends of the range among them; 4-bit values as 8-bit ones."""
    least, greatest = RANGES[dtype]
    held = "int8" if least else "uint8"
    values = np.random.default_rng(seed).integers(least, greatest + 1, shape).astype(held)
    flat = values.reshape(-1)
    flat[:: max(1, flat.size // 17)] = least
    flat[1 :: max(1, flat.size // 13)] = greatest
    return values
