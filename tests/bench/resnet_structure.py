"""ResNet-18 and ResNet-50 as graphs: their topology, with few channels and a small image."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax

op = relax.op

STAGES = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


def resnet(
    depth: int,
    *,
    width: int = 4,
    image: int = 32,
    batch: int = 1,
    classes: int = 10,
    shortcut_first: bool = False,
) -> tvm.IRModule:
    """A float ResNet without batch normalisation; ``shortcut_first`` writes ``add(shortcut, branch)``."""
    rng = np.random.default_rng(depth)
    builder = relax.BlockBuilder()
    data = relax.Var("data", relax.TensorType((batch, 3, image, image), "float32"))

    def weight(*shape: int) -> relax.Expr:
        deviation = np.sqrt(2 / np.prod(shape[1:]))
        return relax.const((rng.standard_normal(shape) * deviation).astype(np.float32))

    def conv(name: str, x: relax.Expr, channels: int, kernel: int, stride: int = 1) -> relax.Expr:
        w = weight(channels, int(x.ty.shape[1]), kernel, kernel)
        call = op.nn.conv2d(x, w, strides=stride, padding=kernel // 2)
        return builder.emit(call, name)

    def relu(name: str, x: relax.Expr) -> relax.Expr:
        return builder.emit(op.nn.relu(x), name)

    def block(name: str, x: relax.Expr, channels: int, stride: int) -> relax.Expr:
        out = channels if depth == 18 else 4 * channels
        convolutions = (
            ((channels, 3, stride), (out, 3, 1))
            if depth == 18
            else ((channels, 1, 1), (channels, 3, stride), (out, 1, 1))
        )

        def shortcut() -> relax.Expr:
            changes = stride != 1 or int(x.ty.shape[1]) != out
            return conv(f"{name}_shortcut", x, out, 1, stride) if changes else x

        left = shortcut() if shortcut_first else None
        y = x
        for number, (planes, kernel, step) in enumerate(convolutions, 1):
            y = conv(f"{name}_conv{number}", y, planes, kernel, step)
            if number < len(convolutions):
                y = relu(f"{name}_relu{number}", y)
        total = op.add(left, y) if left is not None else op.add(y, shortcut())
        return relu(name, builder.emit(total, f"{name}_sum"))

    with builder.function("main", [data]):
        with builder.dataflow():
            x = relu("stem_relu", conv("stem", data, width, 7, 2))
            x = builder.emit(op.nn.max_pool2d(x, (3, 3), (2, 2), (1, 1, 1, 1)), "pool")
            for stage, blocks in enumerate(STAGES[depth]):
                for number in range(blocks):
                    stride = 2 if stage and not number else 1
                    x = block(f"stage{stage + 1}_{number + 1}", x, width << stage, stride)
            x = builder.emit(op.mean(x, [2, 3]), "average")
            x = builder.emit(op.matmul(x, weight(int(x.ty.shape[1]), classes)), "dense")
            output = builder.emit_output(x, "output")
        builder.emit_func_output(output)
    return builder.get()
