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

    def covered(self, count: int) -> int:
        """Return how many data, zeros included, `count` neighbouring results are computed from."""
        return (count - 1) * self.stride + self.kernel


def _check_data(data: Sequence[int], config: Config) -> None:
    b, c = config.batch, config.block
    if len(data) != 6 or tuple(data[4:]) != (b, c) or min(data) < 1:
        raise ValueError(f"data {tuple(data)} is not packed as (N/{b}, C/{c}, H, W, {b}, {c})")


def _axes(
    data: Sequence[int],
    window: tuple[int, int],
    strides: tuple[int, int],
    padding: tuple[int, int, int, int],
) -> tuple[Axis, Axis]:
    if len(strides) != 2 or min(strides) < 1:
        raise ValueError(f"strides {strides} are not two positive numbers")
    if len(padding) != 4:
        raise ValueError(f"padding {padding} is not (top, left, bottom, right)")
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


@dataclass(frozen=True)
class Convolution:
    """A convolution in elements: batches, in and out channel blocks, and two axes.

    inputs: the blocks that one block of out channels is computed from. groups: 1, or as many as out channel
    blocks, each with its own in channel blocks.
    """

    batches: int
    inputs: int
    outputs: int
    rows: Axis
    columns: Axis
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
        _check_data(data, config)
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
        _check_data(data, config)
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
