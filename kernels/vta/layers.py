"""Layers in elements of VTA's memories: extents from packed shapes, checked against one another."""

from collections.abc import Sequence
from dataclasses import dataclass

from simulators.vta.config import PAD_LIMIT, Config


@dataclass(frozen=True)
class Axis:
    """One spatial axis: extents of data, kernel and result, stride, and zeros before and after."""

    size: int
    kernel: int
    stride: int
    before: int
    after: int

    @property
    def out(self) -> int:
        """Extent of the result."""
        return (self.size + self.before + self.after - self.kernel) // self.stride + 1

    @property
    def phases(self) -> int:
        """Results that are this far apart are computed with the same part of the kernel."""
        return 1

    @property
    def zeros(self) -> tuple[int, int]:
        """Zeros that the data need before and after them."""
        return self.before, self.after

    def covered(self, count: int) -> int:
        """Return how many data, zeros included, `count` neighbouring results are computed from."""
        return (count - 1) * self.stride + self.kernel


@dataclass(frozen=True)
class TransposedAxis:
    """One spatial axis of a transposed convolution.

    size, kernel: extents of data and kernel. Each datum is multiplied by the kernel, `stride` results after
    the one before it; `before` and `after` results are cut off, and behind the last are `extra` zeros.

    Result y is phase (y + before) mod stride: its data meet every stride-th tap of the kernel from that one
    on, and no zeros between the data. Datum (y + before) // stride meets the first of these taps, the datum
    before it the next.
    """

    size: int
    kernel: int
    stride: int
    before: int
    after: int
    extra: int

    @property
    def out(self) -> int:
        """Extent of the result."""
        return (self.size - 1) * self.stride + self.kernel - self.before - self.after + self.extra

    @property
    def phases(self) -> int:
        """Results that are this far apart are computed with the same part of the kernel."""
        return self.stride

    @property
    def taps(self) -> int:
        """The most taps of the kernel that one result is computed with."""
        return -(-self.kernel // self.stride)

    @property
    def zeros(self) -> tuple[int, int]:
        """Zeros that the data need before and after them."""
        last = (self.out - 1 + self.before) // self.stride
        return max(self.taps - 1 - self.before // self.stride, 0), max(last - (self.size - 1), 0)

    def covered(self, count: int) -> int:
        """Return how many data, zeros included, `count` results from one of the first phase on need."""
        return (self.before % self.stride + count - 1) // self.stride + self.taps


def check_data(data: Sequence[int], config: Config) -> None:
    """ValueError where a shape is not that of packed images."""
    b, c = config.batch, config.block
    if len(data) != 6 or tuple(data[4:]) != (b, c) or min(data) < 1:
        raise ValueError(f"data {tuple(data)} is not packed as (N/{b}, C/{c}, H, W, {b}, {c})")


def _check_window(strides: tuple[int, int], padding: tuple[int, int, int, int]) -> None:
    if len(strides) != 2 or min(strides) < 1:
        raise ValueError(f"strides {strides} are not two positive numbers")
    if len(padding) != 4:
        raise ValueError(f"padding {padding} is not (top, left, bottom, right)")


def _axes(
    data: Sequence[int],
    window: tuple[int, int],
    strides: tuple[int, int],
    padding: tuple[int, int, int, int],
) -> tuple[Axis, Axis]:
    _check_window(strides, padding)
    top, left, bottom, right = padding
    axes: list[Axis] = []
    for name, size, kernel, stride, before, after in (
        ("height", data[2], window[0], strides[0], top, bottom),
        ("width", data[3], window[1], strides[1], left, right),
    ):
        limit = min(PAD_LIMIT, kernel - 1)
        if not (0 <= before <= limit and 0 <= after <= limit):
            raise ValueError(
                f"padding {before}, {after} of the {name}: 0 to {limit} (kernel {kernel}) is possible"
            )
        if size + before + after < kernel:
            raise ValueError(f"kernel {kernel} is larger than the padded {name} {size + before + after}")
        axes.append(Axis(size, kernel, stride, before, after))
    return axes[0], axes[1]


def _transposed_axes(
    data: Sequence[int],
    window: tuple[int, int],
    strides: tuple[int, int],
    padding: tuple[int, int, int, int],
    output_padding: tuple[int, int],
) -> tuple[TransposedAxis, TransposedAxis]:
    _check_window(strides, padding)
    top, left, bottom, right = padding
    axes: list[TransposedAxis] = []
    for name, place, cut in (("height", 0, (top, bottom)), ("width", 1, (left, right))):
        stride, extra = strides[place], output_padding[place]
        axis = TransposedAxis(data[2 + place], window[place], stride, *cut, extra)
        if min(cut) < 0 or not 0 <= extra < stride:
            raise ValueError(
                f"padding {cut[0]}, {cut[1]} and output padding {extra} of the {name}: none is negative, and "
                f"output padding is less than the stride {stride}"
            )
        if axis.out < 1:
            raise ValueError(f"padding {cut[0]}, {cut[1]} cuts off all of the {name}")
        if max(axis.zeros) > PAD_LIMIT:
            raise ValueError(f"the {name} needs {max(axis.zeros)} zeros around the data, and {PAD_LIMIT} fit")
        axes.append(axis)
    return axes[0], axes[1]


@dataclass(frozen=True)
class Convolution:
    """A convolution in elements: batches, in and out channel blocks, and two axes.

    inputs: the blocks that one block of out channels is computed from. groups: 1, or as many as out channel
    blocks, each with its own in channel blocks.
    """

    batches: int
    inputs: int
    outputs: int
    rows: Axis | TransposedAxis
    columns: Axis | TransposedAxis
    batch: int
    block: int
    groups: int = 1

    @property
    def taps(self) -> int:
        """Weight elements of one pair of channel blocks."""
        return self.rows.kernel * self.columns.kernel

    @classmethod
    def of(
        cls,
        data: Sequence[int],
        weight: Sequence[int],
        strides: tuple[int, int],
        padding: tuple[int, int, int, int],
        config: Config,
        *,
        groups: int = 1,
    ) -> "Convolution":
        """Check the shapes of a layer against one another and the configuration."""
        b, c = config.batch, config.block
        check_data(data, config)
        if len(weight) != 6 or tuple(weight[4:]) != (c, c) or min(weight) < 1:
            raise ValueError(f"weight {tuple(weight)} is not packed as (O/{c}, C/{c}, KH, KW, {c}, {c})")
        if groups not in (1, weight[0]):
            raise ValueError(f"{groups} groups of {weight[0]} blocks of out channels: 1 or {weight[0]}")
        if weight[1] * groups != data[1]:
            raise ValueError(
                f"weight has {weight[1]} blocks of input channels, and data has {data[1]}"
                + (f" in {groups} groups" if groups > 1 else "")
            )
        axes = _axes(data, (weight[2], weight[3]), strides, padding)
        return cls(data[0], weight[1], weight[0], axes[0], axes[1], b, c, groups)

    @classmethod
    def transposed(  # noqa: PLR0917 - the layer's own
        cls,
        data: Sequence[int],
        weight: Sequence[int],
        strides: tuple[int, int],
        padding: tuple[int, int, int, int],
        output_padding: tuple[int, int],
        config: Config,
        *,
        groups: int = 1,
    ) -> "Convolution":
        """Check the shapes of a transposed convolution, whose weight is (C/c, O/c/groups, KH, KW, c, c)."""
        b, c = config.batch, config.block
        check_data(data, config)
        if len(weight) != 6 or tuple(weight[4:]) != (c, c) or min(weight) < 1:
            raise ValueError(f"weight {tuple(weight)} is not packed as (C/{c}, O/{c}, KH, KW, {c}, {c})")
        if weight[0] != data[1]:
            raise ValueError(f"weight has {weight[0]} blocks of input channels, and data has {data[1]}")
        if groups != 1 and (weight[1] != 1 or data[1] % groups):
            raise ValueError(
                f"{groups} groups of {data[1]} blocks of in and {weight[1]} of out channels: 1, or one a "
                "block of out channels"
            )
        axes = _transposed_axes(data, (weight[2], weight[3]), strides, padding, output_padding)
        return cls(data[0], data[1] // groups, weight[1] * groups, axes[0], axes[1], b, c, groups)


@dataclass(frozen=True)
class Pooling:
    """A pooling in elements: batches, channel blocks, and two axes."""

    batches: int
    channels: int
    rows: Axis
    columns: Axis

    @classmethod
    def of(  # noqa: PLR0917 - the layer's own
        cls,
        data: Sequence[int],
        kind: str,
        window: tuple[int, int],
        strides: tuple[int, int],
        padding: tuple[int, int, int, int],
        config: Config,
    ) -> "Pooling":
        """Check the shape and the window of a layer."""
        if kind not in ("max", "sum"):
            raise ValueError(f"no pooling {kind!r}; there are 'max' and 'sum'")
        check_data(data, config)
        return cls(data[0], data[1], *_axes(data, window, strides, padding))


@dataclass(frozen=True)
class Product:
    """A dense layer in elements: row blocks, and blocks of in and out channels."""

    rows: int
    inputs: int
    outputs: int
    batch: int
    block: int

    @property
    def convolution(self) -> Convolution:
        """The convolution that moves and multiplies as much: of one column, by a kernel of one element."""
        rows, columns = (Axis(size, kernel=1, stride=1, before=0, after=0) for size in (self.rows, 1))
        return Convolution(1, self.inputs, self.outputs, rows, columns, self.batch, self.block)

    @classmethod
    def of(cls, data: Sequence[int], weight: Sequence[int], config: Config) -> "Product":
        """Check the shapes of a layer against one another and the configuration."""
        b, c = config.batch, config.block
        if len(data) != 4 or tuple(data[2:]) != (b, c) or min(data) < 1:
            raise ValueError(f"data {tuple(data)} is not packed as (M/{b}, K/{c}, {b}, {c})")
        if len(weight) != 4 or tuple(weight[2:]) != (c, c) or min(weight) < 1:
            raise ValueError(f"weight {tuple(weight)} is not packed as (O/{c}, K/{c}, {c}, {c})")
        if weight[1] != data[1]:
            raise ValueError(f"weight has {weight[1]} blocks of input channels, and data has {data[1]}")
        return cls(data[0], data[1], weight[0], b, c)
