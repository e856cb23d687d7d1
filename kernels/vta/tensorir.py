"""The layers as plain TensorIR on packed tensors: what TVM compiles for a CPU, and what is scheduled for VTA.

The arguments are data, weight, the epilogue's tensors, out.

TVM tells LLVM that int32 sums and products never overflow, and LLVM makes use of it: (x + 32767 + y) max 0
came out wrong here. VTA wraps, so the epilogue adds and multiplies in int64 and keeps the low half.
"""

from collections.abc import Sequence

from tvm import te, tirx, topi

from kernels.vta.epilogue import Step, steps_of, tensors_of
from kernels.vta.layers import Convolution, Product
from simulators.vta.config import PYNQ, Config
from simulators.vta.isa import AluOpcode


def conv2d_primfunc(
    data_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    epilogue: Sequence[tuple[str, int | str]] = (),
    config: Config = PYNQ,
) -> tirx.PrimFunc:
    """Describe the layer of `kernels.vta.conv2d.conv2d` with the same arguments and errors."""
    layer = Convolution.of(data_shape, weight_shape, strides, padding, config)
    rows, columns, c = layer.rows, layer.columns, layer.block
    data = te.placeholder(tuple(data_shape), "int8", "data")
    weight = te.placeholder(tuple(weight_shape), "int8", "weight")
    padded = topi.nn.pad(
        data,
        (0, 0, rows.before, columns.before, 0, 0),
        (0, 0, rows.after, columns.after, 0, 0),
        name="padded",
    )
    ci, ky, kx, i = (
        te.reduce_axis((0, extent), name)
        for extent, name in ((layer.inputs, "ci"), (rows.kernel, "ky"), (columns.kernel, "kx"), (c, "i"))
    )
    acc = te.compute(
        (layer.batches, layer.outputs, rows.out, columns.out, layer.batch, c),
        lambda n, co, y, x, b, o: te.sum(
            padded[n, ci, y * rows.stride + ky, x * columns.stride + kx, b, i].astype("int32")
            * weight[co, ci, ky, kx, o, i].astype("int32"),
            axis=[ci, ky, kx, i],
        ),
        name="acc",
    )
    return _with_epilogue([data, weight], acc, steps_of(epilogue), layer.outputs, config)


def dense_primfunc(
    data_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    epilogue: Sequence[tuple[str, int | str]] = (),
    config: Config = PYNQ,
) -> tirx.PrimFunc:
    """Describe the layer of `kernels.vta.dense.dense` with the same arguments and errors."""
    layer = Product.of(data_shape, weight_shape, config)
    data = te.placeholder(tuple(data_shape), "int8", "data")
    weight = te.placeholder(tuple(weight_shape), "int8", "weight")
    k, i = te.reduce_axis((0, layer.inputs), "k"), te.reduce_axis((0, layer.block), "i")
    acc = te.compute(
        (layer.rows, layer.outputs, layer.batch, layer.block),
        lambda m, co, b, o: te.sum(
            data[m, k, b, i].astype("int32") * weight[co, k, o, i].astype("int32"), axis=[k, i]
        ),
        name="acc",
    )
    return _with_epilogue([data, weight], acc, steps_of(epilogue), layer.outputs, config)


def _with_epilogue(
    arguments: list[te.Tensor], acc: te.Tensor, steps: tuple[Step, ...], outputs: int, config: Config
) -> tirx.PrimFunc:
    """Append the epilogue as one expression, whose low 8 bits are the result."""
    # One value a channel, in the shape that broadcasts to the result: (O/c, 1, 1, b, c) or (O/c, b, c).
    positions = (1,) * (len(acc.shape) - 4)
    shape = (outputs, *positions, config.batch, config.block)
    tensors = {name: te.placeholder(shape, "int32", name) for name in tensors_of(steps)}

    def result(*index: tirx.Var) -> tirx.Expr:
        value = acc[index]
        for step in steps:
            if step.tensor is None:
                operand = tirx.const(step.immediate, "int32")
            else:
                operand = tensors[step.tensor][(index[1], *(0 for _ in positions), *index[-2:])]
            value = _operation(step.opcode, value, operand)
        return value.astype("int8")

    out = te.compute(acc.shape, result, name="out")
    return te.create_prim_func([*arguments, *tensors.values(), out])


def _operation(opcode: AluOpcode, value: tirx.Expr, operand: tirx.Expr) -> tirx.Expr:
    """Write one ALU operation on int32; sums and products wrap."""
    match opcode:
        case AluOpcode.ADD:
            return (value.astype("int64") + operand.astype("int64")).astype("int32")
        case AluOpcode.MUL:
            return (value.astype("int64") * operand.astype("int64")).astype("int32")
        case AluOpcode.MIN:
            return te.min(value, operand)
        case AluOpcode.MAX:
            return te.max(value, operand)
        case _:
            return value >> operand
