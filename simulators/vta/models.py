"""What one GEMM tile and one ALU operation compute: a few plain lines each.

They are the meaning that a program's results are compared with, and share no arithmetic with the machine.
Source: the behaviour of VTA's functional simulator (`sim_driver.cc` of apache/tvm-vta), see docs/vta.md.
"""

import numpy as np

from simulators.vta.isa import AluOpcode


def _wrap(value: np.ndarray) -> np.ndarray:
    """Bring an int64 to int32, modulo 2^32."""
    return ((value + 2**31) % 2**32 - 2**31).astype(np.int32)


def gemm(acc: np.ndarray, inp: np.ndarray, wgt: np.ndarray) -> np.ndarray:
    """Return acc + inp · wgtᵀ, modulo 2^32.

    acc (..., b, o) int32, inp (..., b, i) int8, wgt (..., o, i) int8; leading dimensions broadcast.
    Returns int32. ValueError where a dtype is another or the tiles do not fit one another.
    """
    for name, tile, dtype in (("acc", acc, np.int32), ("inp", inp, np.int8), ("wgt", wgt, np.int8)):
        if tile.dtype != dtype or tile.ndim < 2:
            raise ValueError(
                f"{name} is {tile.dtype}{list(tile.shape)}, not {np.dtype(dtype)}[..., rows, columns]"
            )
    if inp.shape[-1] != wgt.shape[-1] or acc.shape[-2:] != (inp.shape[-2], wgt.shape[-2]):
        shapes = [list(tile.shape) for tile in (acc, inp, wgt)]
        raise ValueError(
            f"tiles do not fit: acc {shapes[0]}, inp {shapes[1]}, wgt {shapes[2]}; (b,o), (b,i), (o,i)"
        )
    products = inp.astype(np.int64)[..., :, None, :] * wgt.astype(np.int64)[..., None, :, :]
    return _wrap(acc.astype(np.int64) + products.sum(axis=-1))


def alu(opcode: AluOpcode | str, dst: np.ndarray, operand: np.ndarray | int) -> np.ndarray:
    """Return op(dst, operand), element by element, modulo 2^32; dst int32, operand int32 or a number.

    SHR by n is floor(dst / 2^n) and, where n is negative, dst · 2^-n; MUL is the full product. Returns
    int32. ValueError where the opcode is none of AluOpcode or a dtype is another.
    """
    names = [each.name.lower() for each in AluOpcode]
    name = AluOpcode(opcode).name.lower() if isinstance(opcode, int) else opcode.lower()
    if name not in names:
        raise ValueError(f"no ALU operation {opcode!r}; there are {', '.join(names)}")
    if dst.dtype != np.int32 or (isinstance(operand, np.ndarray) and operand.dtype != np.int32):
        raise ValueError("dst and a tensor operand are int32")
    x, y = dst.astype(np.int64), np.asarray(operand, dtype=np.int64)
    if name == "min":
        return _wrap(np.where(x < y, x, y))
    if name == "max":
        return _wrap(np.where(x > y, x, y))
    if name == "add":
        return _wrap(x + y)
    if name == "mul":
        return _wrap(x * y)
    right = x // 2 ** np.clip(y, 0, 32)
    left = np.where(y > -32, x * 2 ** np.clip(-y, 0, 31), 0)
    return _wrap(np.where(y >= 0, right, left))
