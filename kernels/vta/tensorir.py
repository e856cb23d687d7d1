"""The layers as plain TensorIR on packed tensors: what TVM compiles for a CPU, and what is scheduled for VTA.

The arguments are data, weight, the epilogue's tensors, out.

TVM tells LLVM that int32 sums and products never overflow, and LLVM makes use of it: (x + 32767 + y) max 0
came out wrong here. VTA wraps, so the epilogue adds and multiplies in int64 and keeps the low half, by a
mask: TVM takes a cast to lose nothing, and would drop the clip of max(x, 0) + 1 at -127.
"""

from collections.abc import Sequence

from tvm import te, tirx, topi

from kernels.vta.epilogue import Epilogue, Step, residuals_of, steps_of, tensors_of
from kernels.vta.layers import Axis, Convolution, Pooling, Product, TransposedAxis, check_data
from simulators.vta.config import PYNQ, Config
from simulators.vta.isa import AluOpcode

LOWEST = -(2**7)
"""What no int8 is below."""
UNCHANGED: Epilogue = (("max", LOWEST),)
"""A step that changes no int8: some backends store what the ALU has written last, not what was loaded."""


def conv2d_primfunc(
    data_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    groups: int = 1,
    epilogue: Epilogue = (),
    config: Config = PYNQ,
) -> tirx.PrimFunc:
    """Describe the layer of `kernels.vta.conv2d.conv2d` with the same arguments and errors."""
    layer = Convolution.of(data_shape, weight_shape, strides, padding, config, groups=groups)
    rows, columns, c = layer.rows, layer.columns, layer.block
    assert isinstance(rows, Axis)
    assert isinstance(columns, Axis)
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

    def first(co: tirx.Var) -> tirx.Expr | int:
        return co * layer.inputs if layer.groups > 1 else 0

    acc = te.compute(
        (layer.batches, layer.outputs, rows.out, columns.out, layer.batch, c),
        lambda n, co, y, x, b, o: te.sum(
            padded[n, first(co) + ci, y * rows.stride + ky, x * columns.stride + kx, b, i].astype("int32")
            * weight[co, ci, ky, kx, o, i].astype("int32"),
            axis=[ci, ky, kx, i],
        ),
        name="acc",
    )
    return _with_epilogue([data, weight], acc, steps_of(epilogue), config)


def conv2d_transpose_primfunc(
    data_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    output_padding: tuple[int, int] = (0, 0),
    groups: int = 1,
    epilogue: Epilogue = (),
    config: Config = PYNQ,
) -> tirx.PrimFunc:
    """Describe the layer of `kernels.vta.conv2d_transpose` with the same arguments and errors.

    A result is computed from its own phase of the kernel (`kernels.vta.layers.TransposedAxis`).
    """
    layer = Convolution.transposed(
        data_shape, weight_shape, strides, padding, output_padding, config, groups=groups
    )
    axes = layer.rows, layer.columns
    assert isinstance(axes[0], TransposedAxis)
    assert isinstance(axes[1], TransposedAxis)
    data = te.placeholder(tuple(data_shape), "int8", "data")
    weight = te.placeholder(tuple(weight_shape), "int8", "weight")
    before, after = ([each.zeros[side] for each in axes] for side in (0, 1))
    padded = topi.nn.pad(data, (0, 0, *before, 0, 0), (0, 0, *after, 0, 0), name="padded")
    ci, ky, kx, i = (
        te.reduce_axis((0, extent), name)
        for extent, name in (
            (layer.inputs, "ci"),
            (axes[0].taps, "ky"),
            (axes[1].taps, "kx"),
            (layer.block, "i"),
        )
    )

    def product(*index: tirx.Var) -> tirx.Expr:
        n, co, y, x, b, o = index
        places = [
            (
                (result + axis.before) // axis.stride - tap + axis.zeros[0],
                (result + axis.before) % axis.stride + tap * axis.stride,
            )
            for axis, result, tap in zip(axes, (y, x), (ky, kx), strict=True)
        ]
        (row, upper), (column, left) = places
        own, out = (co * layer.inputs + ci, 0) if layer.groups > 1 else (ci, co)
        pixel = padded[n, own, row, column, b, i].astype("int32")
        term = pixel * weight[own, out, upper, left, o, i].astype("int32")
        met = tirx.all(upper < axes[0].kernel, left < axes[1].kernel)
        return te.sum(te.if_then_else(met, term, tirx.const(0, "int32")), axis=[ci, ky, kx, i])

    shape = (layer.batches, layer.outputs, axes[0].out, axes[1].out, layer.batch, layer.block)
    acc = te.compute(shape, product, name="acc")
    return _with_epilogue([data, weight], acc, steps_of(epilogue), config)


def dense_primfunc(
    data_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    epilogue: Epilogue = (),
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
    return _with_epilogue([data, weight], acc, steps_of(epilogue), config)


def pool2d_primfunc(
    data_shape: Sequence[int],
    *,
    kind: str,
    window: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    epilogue: Epilogue = (),
    config: Config = PYNQ,
) -> tirx.PrimFunc:
    """Describe the layer of `kernels.vta.pool2d.pool2d` with the same arguments and errors."""
    layer = Pooling.of(data_shape, kind, window, strides, padding, config)
    rows, columns = layer.rows, layer.columns
    data = te.placeholder(tuple(data_shape), "int8", "data")
    zero = 0 if kind == "sum" else LOWEST
    height, width = (each.before + each.size + each.after for each in (rows, columns))

    padded = _widened_within(data, (rows.before, columns.before), (height, width), zero, name="padded")
    ky, kx = te.reduce_axis((0, rows.kernel), "ky"), te.reduce_axis((0, columns.kernel), "kx")
    reduce = te.sum if kind == "sum" else te.max
    acc = te.compute(
        (*data_shape[:2], rows.out, columns.out, *data_shape[4:]),
        lambda n, co, y, x, b, c: reduce(
            padded[n, co, y * rows.stride + ky, x * columns.stride + kx, b, c], axis=[ky, kx]
        ),
        name="acc",
    )
    return _with_epilogue([data], acc, steps_of(epilogue), config)


def pad_primfunc(
    data_shape: Sequence[int], *, padding: tuple[int, int, int, int], value: int = 0, config: Config = PYNQ
) -> tirx.PrimFunc:
    """Describe the layer of `kernels.vta.pad.pad` with the same arguments and errors."""
    check_data(data_shape, config)
    if len(padding) != 4 or min(padding) < 0:
        raise ValueError(f"padding {padding} is not (top, left, bottom, right), none of them negative")
    if not LOWEST <= value <= -LOWEST - 1:
        raise ValueError(f"padding with {value}, which is no int8")
    top, left, bottom, right = padding
    data = te.placeholder(tuple(data_shape), "int8", "data")
    extents = data_shape[2] + top + bottom, data_shape[3] + left + right
    acc = _widened_within(data, (top, left), extents, value, name="acc")
    return _with_epilogue([data], acc, steps_of(UNCHANGED), config)


def elementwise_primfunc(
    data_shape: Sequence[int], *, epilogue: Epilogue, config: Config = PYNQ
) -> tirx.PrimFunc:
    """Describe the layer of `kernels.vta.elementwise.elementwise` with the same arguments and errors."""
    Pooling.of(data_shape, "sum", (1, 1), (1, 1), (0, 0, 0, 0), config)
    data = te.placeholder(tuple(data_shape), "int8", "data")
    acc = te.compute(tuple(data_shape), lambda *index: data[index].astype("int32"), name="acc")
    return _with_epilogue([data], acc, steps_of(epilogue), config)


def _widened_within(
    data: te.Tensor, before: tuple[int, int], extents: tuple[int, int], value: int, *, name: str
) -> te.Tensor:
    """Widen int8 images to int32 in the middle of larger ones, that have a number everywhere else."""
    top, left = before
    height, width = (int(size) for size in data.shape[2:4])
    shape = (*data.shape[:2], *extents, *data.shape[4:])

    def widened(n: tirx.Var, co: tirx.Var, y: tirx.Var, x: tirx.Var, *rest: tirx.Var) -> tirx.Expr:
        inside = data[(n, co, y - top, x - left, *rest)].astype("int32")
        if extents == (height, width):
            return inside
        where = tirx.all(y >= top, y < top + height, x >= left, x < left + width)
        return te.if_then_else(where, inside, tirx.const(value, "int32"))

    return te.compute(shape, widened, name=name)


def _with_epilogue(
    arguments: list[te.Tensor], acc: te.Tensor, steps: tuple[Step, ...], config: Config
) -> tirx.PrimFunc:
    """Append the epilogue as one expression, whose low 8 bits are the result."""
    # One value a channel, in the shape that broadcasts to the result: (O/c, 1, 1, b, c) or (O/c, b, c).
    positions = (1,) * (len(acc.shape) - 4)
    shape = (acc.shape[1], *positions, config.batch, config.block)
    tensors = {name: te.placeholder(shape, "int32", name) for name in tensors_of(steps)}
    residuals = {each.name: te.placeholder(acc.shape, "int8", each.name) for each in residuals_of(steps)}
    widened = {each: _widened(residuals[each.name], each.shift) for each in residuals_of(steps)}

    def result(*index: tirx.Var) -> tirx.Expr:
        value = acc[index]
        for step in steps:
            if step.residual is not None:
                operand = widened[step.residual][index]
            elif step.tensor is not None:
                operand = tensors[step.tensor][(index[1], *(0 for _ in positions), *index[-2:])]
            else:
                operand = tirx.const(step.immediate, "int32")
            value = _operation(step.opcode, value, operand)
        return value.astype("int8")

    out = te.compute(acc.shape, result, name="out")
    return te.create_prim_func([*arguments, *tensors.values(), *residuals.values(), out])


def _widened(tensor: te.Tensor, shift: int) -> te.Tensor:
    """Widen int8 to int32 and shift it left, each in a stage of its own."""
    wide = te.compute(tensor.shape, lambda *index: tensor[index].astype("int32"), name=f"{tensor.name}_wide")
    if not shift:
        return wide
    return te.compute(tensor.shape, lambda *index: wide[index] << shift, name=f"{tensor.name}_shifted")


def _operation(opcode: AluOpcode, value: tirx.Expr, operand: tirx.Expr) -> tirx.Expr:
    """Write one ALU operation on int32; sums and products wrap."""
    match opcode:
        case AluOpcode.ADD:
            return _low_half(value.astype("int64") + operand.astype("int64"))
        case AluOpcode.MUL:
            return _low_half(value.astype("int64") * operand.astype("int64"))
        case AluOpcode.MIN:
            return te.min(value, operand)
        case AluOpcode.MAX:
            return te.max(value, operand)
        case _:
            return value >> operand


def _low_half(value: tirx.Expr) -> tirx.Expr:
    """The low 32 bits of an int64, by neither a cast from int64 nor one of int32 to uint32."""
    return tirx.reinterpret("int32", (value & tirx.const(2**32 - 1, "int64")).astype("uint32"))
