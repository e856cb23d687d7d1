"""A float network with seeded weights, built layer by layer while a few sample images run through it.

Weights are drawn after He et al. (2015). Each convolution is followed by a batch normalisation whose
statistics are those of the sample at that very place, so that activations keep their range through any
number of layers and two images do not become the same on the way; it is folded into weight and bias, as one
does before quantising. The sample has a small size of its own: the weights do not depend on the batch or the
size of the images that the network is built for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Expr

from bench.evaluate.convolution import convolve, convolve_transposed, windows
from bench.workloads.images import smooth_images

_SAMPLE_PIXELS = 4 * 112 * 112
_SAMPLE_SIDE, _SAMPLE_MOST = 112, 32
_SAMPLE_SEED = 2015
_FLOAT = np.dtype(np.float32)


@dataclass(frozen=True)
class Tensor:
    """A tensor of the network: its expression, and what the sample images have there."""

    expression: Expr
    sample: np.ndarray

    @property
    def channels(self) -> int:
        """Number of channels (or of features)."""
        return int(self.sample.shape[1])


class NetworkBuilder:
    """Emits one float function, `main(data)`, with readable names of bindings."""

    def __init__(self, *, batch: int, channels: int, image: int, seed: int) -> None:
        """Begin with images (batch, channels, image, image)."""
        self._generator = np.random.default_rng(seed)
        self._builder = relax.BlockBuilder()
        data = relax.Var("data", relax.TensorType((batch, channels, image, image), "float32"))
        side = min(image, _SAMPLE_SIDE)
        count = min(_SAMPLE_MOST, _SAMPLE_PIXELS // side**2)
        sample = smooth_images(count, channels, side, seed=_SAMPLE_SEED)
        self._function = self._builder.function("main", [data])
        self._function.__enter__()
        self._block = self._builder.dataflow()
        self._block.__enter__()
        self.data = Tensor(data, sample)

    def finish(self, output: Tensor) -> tvm.IRModule:
        """Return the module; `output` is its last tensor."""
        result = self._builder.emit_output(output.expression, name_hint="output")
        self._block.__exit__(None, None, None)
        self._builder.emit_func_output(result)
        self._function.__exit__(None, None, None)
        function = self._builder.get()["main"]
        *bindings, last, _ = (binding for block in function.body.blocks for binding in block.bindings)
        # What leaves the block is the last binding itself, and no other name of it.
        variable = relax.Var(last.var.name, last.var.ty)
        block = relax.DataflowBlock([*bindings, relax.VarBinding(variable, last.value)])
        body = relax.SeqExpr([block], variable)
        main = relax.Function(function.params, body, variable.ty).with_attr("global_symbol", "main")
        return relax.transform.Normalize()(tvm.IRModule({"main": main}))

    def convolution(
        self,
        name: str,
        source: Tensor,
        channels: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        gain: float = 1.0,
        normalize: bool = True,
    ) -> Tensor:
        """Convolve with padding kernel // 2 and add a bias: bindings `name` and `name_bias`.

        `gain` scales what the normalisation gives, the branch of a residual block for instance;
        without `normalize` the weight and a small bias are as drawn.
        """
        weight = self._weight((channels, source.channels // groups, kernel, kernel))
        if groups == source.channels > 1:
            # Of neighbours that are alike, filters without a mean would leave little but noise.
            weight = weight + np.sqrt(np.float32(2)) / kernel
        padding = kernel // 2
        sample = convolve(
            source.sample,
            weight,
            strides=(stride, stride),
            padding=[padding] * 4,
            dilation=(1, 1),
            groups=groups,
            dtype=_FLOAT,
        )
        weight, bias, sample = self._fold(weight, sample, 0, gain if normalize else None)
        convolved = relax.op.nn.conv2d(
            source.expression, relax.const(weight), strides=stride, padding=padding, groups=groups
        )
        return self._biased(name, convolved, bias, sample)

    def transposed(self, name: str, source: Tensor, channels: int, *, factor: int) -> Tensor:
        """Enlarge by `factor` with a transposed convolution of as large a filter, and add a bias."""
        weight = self._weight((source.channels, channels, factor, factor), fan_in=source.channels)
        sample = convolve_transposed(
            source.sample,
            weight,
            strides=(factor, factor),
            padding=[0] * 4,
            output_padding=(0, 0),
            dilation=(1, 1),
            groups=1,
            dtype=_FLOAT,
        )
        weight, bias, sample = self._fold(weight, sample, 1, 1.0)
        convolved = relax.op.nn.conv2d_transpose(source.expression, relax.const(weight), strides=factor)
        return self._biased(name, convolved, bias, sample)

    def dense(self, name: str, source: Tensor, units: int) -> Tensor:
        """Multiply by a matrix and add a bias: bindings `name` and `name_bias`.

        The bias takes away what all images have in common, so that the scores tell them apart.
        """
        weight = self._weight((source.channels, units), fan_in=source.channels)
        bias = self._bias(units) - (source.sample @ weight).mean(axis=0)
        product = self._emit(name, relax.op.matmul(source.expression, relax.const(weight)))
        total = self._emit(f"{name}_bias", relax.op.add(product, relax.const(bias)))
        return Tensor(total, source.sample @ weight + bias)

    def relu(self, name: str, source: Tensor) -> Tensor:
        """Rectify."""
        return Tensor(
            self._emit(name, relax.op.nn.relu(source.expression)), np.maximum(source.sample, _FLOAT.type(0))
        )

    def relu6(self, name: str, source: Tensor) -> Tensor:
        """Rectify, and bound by 6."""
        return Tensor(
            self._emit(name, relax.op.clip(source.expression, 0, 6)),
            np.clip(source.sample, _FLOAT.type(0), _FLOAT.type(6)),
        )

    def add(self, name: str, left: Tensor, right: Tensor) -> Tensor:
        """Add two tensors of one shape."""
        total = relax.op.add(left.expression, right.expression)
        return Tensor(self._emit(name, total), left.sample + right.sample)

    def concat(self, name: str, sources: Sequence[Tensor]) -> Tensor:
        """Stand channels one behind the other."""
        joined = relax.op.concat([source.expression for source in sources], axis=1)
        return Tensor(self._emit(name, joined), np.concatenate([source.sample for source in sources], axis=1))

    def max_pool(self, name: str, source: Tensor, kernel: int, *, stride: int, padding: int = 0) -> Tensor:
        """Take the largest element of each window."""
        pooled = relax.op.nn.max_pool2d(
            source.expression, (kernel, kernel), (stride, stride), (padding, padding)
        )
        view = windows(
            source.sample,
            (kernel, kernel),
            strides=(stride, stride),
            padding=[padding] * 4,
            dilation=(1, 1),
            fill=-np.inf,
        )
        return Tensor(self._emit(name, pooled), view.max(axis=(4, 5)))

    def upsample(self, name: str, source: Tensor, *, factor: int) -> Tensor:
        """Repeat each element `factor` times in both directions (the nearest of the enlarged image)."""
        height, width = (int(source.expression.ty.shape[axis]) * factor for axis in (2, 3))
        enlarged = relax.op.image.resize2d(
            source.expression,
            (height, width),
            method="nearest_neighbor",
            coordinate_transformation_mode="asymmetric",
            rounding_method="floor",
        )
        sample = source.sample.repeat(factor, axis=2).repeat(factor, axis=3)
        return Tensor(self._emit(name, enlarged), sample)

    def global_average(self, name: str, source: Tensor) -> Tensor:
        """Average over all positions: (batch, channels)."""
        average = relax.op.mean(source.expression, axis=[2, 3])
        return Tensor(self._emit(name, average), source.sample.mean(axis=(2, 3)))

    def _emit(self, name: str, expression: Expr) -> Expr:
        return self._builder.emit(expression, name_hint=name)

    def _biased(self, name: str, expression: Expr, bias: np.ndarray, sample: np.ndarray) -> Tensor:
        result = self._emit(name, expression)
        total = relax.op.add(result, relax.const(bias.reshape(1, -1, 1, 1)))
        return Tensor(self._emit(f"{name}_bias", total), sample)

    def _weight(self, shape: tuple[int, ...], *, fan_in: int | None = None) -> np.ndarray:
        """Draw normal weights of variance 2 / fan-in."""
        deviation = np.sqrt(2 / (fan_in or np.prod(shape[1:])))
        return self._generator.standard_normal(shape, np.float32) * np.float32(deviation)

    def _bias(self, channels: int) -> np.ndarray:
        return (0.1 * self._generator.standard_normal(channels)).astype(np.float32)

    def _fold(
        self, weight: np.ndarray, sample: np.ndarray, axis: int, gain: float | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Fold a batch normalisation by the sample's statistics into a weight: weight, bias, sample.

        Scale (0.8..1.2) and shift of the normalisation are seeded, too; with no gain only a bias is added.
        """
        channels = weight.shape[axis]
        if gain is None:
            scale, bias = np.ones(channels, np.float32), self._bias(channels)
        else:
            mean, deviation = (f(sample, axis=(0, 2, 3)) for f in (np.mean, np.std))
            gamma = gain * self._generator.uniform(0.8, 1.2, channels)
            beta = gain * 0.2 * self._generator.standard_normal(channels)
            # A channel that hardly varies over the sample is not blown up.
            scale = (gamma / np.maximum(deviation, 0.5 * deviation.mean() + 1e-6)).astype(np.float32)
            bias = (beta - mean * scale).astype(np.float32)
        shape = [-1 if position == axis else 1 for position in range(weight.ndim)]
        return (
            weight * scale.reshape(shape),
            bias,
            sample * scale[:, np.newaxis, np.newaxis] + bias[:, np.newaxis, np.newaxis],
        )
