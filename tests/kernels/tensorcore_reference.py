"""What the tensor-core layers mean, in plain NumPy on unpacked operands, and the packing of weights."""

from dataclasses import dataclass

import numpy as np


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

    @property
    def data_shape(self):
        return (self.height, self.width, self.batch, self.in_channels)

    @property
    def weight_shape(self):
        """HWOI, unpacked."""
        return (*self.kernel, self.out_channels, self.in_channels)

    def options(self):
        names = ("out_channels", "kernel", "strides", "padding", "dilation", "dtype")
        return {name: getattr(self, name) for name in names}


def wrap(values):
    """Integers mod 2^32, as int32."""
    return (np.asarray(values, np.int64) & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


def conv2d(conv, data, weight):
    """HWNC by HWOI to HWNC int32, in int64: one product of matrices for each place of the kernel."""
    top, left, bottom, right = conv.padding
    padded = np.pad(data.astype(np.int64), ((top, bottom), (left, right), (0, 0), (0, 0)))
    reach = [(k - 1) * d + 1 for k, d in zip(conv.kernel, conv.dilation, strict=True)]
    out_height = (padded.shape[0] - reach[0]) // conv.strides[0] + 1
    out_width = (padded.shape[1] - reach[1]) // conv.strides[1] + 1
    total = np.zeros((out_height, out_width, conv.batch, conv.out_channels), np.int64)
    for ky, kx in np.ndindex(*conv.kernel):
        y, x = ky * conv.dilation[0], kx * conv.dilation[1]
        seen = padded[y :: conv.strides[0], x :: conv.strides[1]][:out_height, :out_width]
        total += seen @ weight[ky, kx].astype(np.int64).T
    return wrap(total)


def pack(weight):
    """(..., OC, IC) to (..., OC/32, IC/16, 32, 16): HWOI to HWOI32o16i, NK to NK32n16k."""
    *lead, out_channels, in_channels = weight.shape
    split = weight.reshape(*lead, out_channels // 32, 32, in_channels // 16, 16)
    return np.ascontiguousarray(np.swapaxes(split, -3, -2))


def operands(shape, dtype, seed):
    """Full-range values with the ends of the range among them."""
    info = np.iinfo(dtype)
    values = np.random.default_rng(seed).integers(info.min, info.max + 1, shape).astype(dtype)
    flat = values.reshape(-1)
    flat[:: max(1, flat.size // 17)] = info.min
    flat[1 :: max(1, flat.size // 13)] = info.max
    return values
