"""What one GEMM tile and one ALU operation compute: a few plain lines each.

They are the meaning that a program's results are compared with, and share no arithmetic with the machine.
Source: the behaviour of VTA's functional simulator (`sim_driver.cc` of apache/tvm-vta) and, for the other
backends, of their designs; see docs/vta.md.
"""

from collections.abc import Callable

import numpy as np

from simulators.vta.isa import AluOpcode

ACCUMULATORS = (np.dtype(np.int32), np.dtype(np.int16))
NUMBERS = (np.dtype(np.int8), np.dtype(np.int16))
# A product of two int16 is at most 2^30 and a double has every integer up to 2^53, so that sums over fewer
# columns are exact in whatever order they are added.
EXACT_COLUMNS = 2**23


def _wrap(value: np.ndarray, dtype: np.dtype = ACCUMULATORS[0]) -> np.ndarray:
    """Bring an int64 to an accumulator, modulo 2^32 or 2^16: its low bits."""
    return value.astype(dtype)


def gemm(acc: np.ndarray, inp: np.ndarray, wgt: np.ndarray) -> np.ndarray:
    """Return acc + inp · wgtᵀ, modulo 2^32 (2^16 where acc is int16).

    acc (..., b, o) int32, inp (..., b, i) int8, wgt (..., o, i) int8; leading dimensions broadcast. Other
    configurations have acc int16, and inp or wgt int16. A matrix of tiles may stand for each of the three:
    a product of such matrices is the products of their tiles, added up, and modulo 2^32 no order of adding
    matters. ValueError where a dtype is another or the tiles do not fit one another.
    """
    for name, tile, dtypes in (("acc", acc, ACCUMULATORS), ("inp", inp, NUMBERS), ("wgt", wgt, NUMBERS)):
        if tile.dtype not in dtypes or tile.ndim < 2:
            wanted = " or ".join(map(str, dtypes))
            raise ValueError(f"{name} is {tile.dtype}{list(tile.shape)}, not {wanted}[..., rows, columns]")
    if inp.shape[-1] >= EXACT_COLUMNS:
        raise ValueError(f"inp has {inp.shape[-1]} columns: sums of {EXACT_COLUMNS} and more are not exact")
    if inp.shape[-1] != wgt.shape[-1] or acc.shape[-2:] != (inp.shape[-2], wgt.shape[-2]):
        shapes = [list(tile.shape) for tile in (acc, inp, wgt)]
        raise ValueError(
            f"tiles do not fit: acc {shapes[0]}, inp {shapes[1]}, wgt {shapes[2]}; (b,o), (b,i), (o,i)"
        )
    sums = inp.astype(np.float64) @ wgt.astype(np.float64).swapaxes(-1, -2)
    return _wrap(acc.astype(np.int64) + sums.astype(np.int64), acc.dtype)


def alu(opcode: AluOpcode | str, dst: np.ndarray, operand: np.ndarray | int) -> np.ndarray:
    """Return op(dst, operand), element by element, modulo 2^32; dst int32, operand int32 or a number.

    SHR by n is floor(dst / 2^n) and, where n is negative, dst · 2^-n; MUL is the full product. Returns
    dst's dtype; int16 is an accumulator too. ValueError where the opcode is none of AluOpcode or a dtype is
    another.
    """
    names = [each.name.lower() for each in AluOpcode]
    name = AluOpcode(opcode).name.lower() if isinstance(opcode, int) else opcode.lower()
    if name not in names:
        raise ValueError(f"no ALU operation {opcode!r}; there are {', '.join(names)}")
    if dst.dtype not in ACCUMULATORS or (isinstance(operand, np.ndarray) and operand.dtype != dst.dtype):
        raise ValueError("dst and a tensor operand are int32, or both int16")
    x, y = dst.astype(np.int64), np.asarray(operand, dtype=np.int64)
    if name == "min":
        return _wrap(np.where(x < y, x, y), dst.dtype)
    if name == "max":
        return _wrap(np.where(x > y, x, y), dst.dtype)
    if name == "add":
        return _wrap(x + y, dst.dtype)
    if name == "mul":
        return _wrap(x * y, dst.dtype)
    return _shifted(x, y, dst.dtype)


def _shifted(x: np.ndarray, y: np.ndarray, dtype: np.dtype = ACCUMULATORS[0]) -> np.ndarray:
    """floor(x / 2^y), or x · 2^-y where y is negative."""
    right = x // 2 ** np.clip(y, 0, 32)
    left = np.where(y > -32, x * 2 ** np.clip(-y, 0, 31), 0)
    return _wrap(np.where(y >= 0, right, left), dtype)


def _signed(y: np.ndarray, bits: int) -> np.ndarray:
    """The low bits as a signed number."""
    return (y + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


_SHIFT_LEFT = ("chisel", 4)
_BACKENDS: dict[tuple[str, int], Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    ("hls", 3): lambda x, y: _shifted(x, _signed(y, 5)),
    ("hls", 4): lambda x, _: _wrap(x),
    ("chisel", 3): lambda x, y: _shifted(x, y % 32),
    _SHIFT_LEFT: lambda x, y: _shifted(x, -(-y % 32)),
    ("vtapp", 3): lambda x, y: _shifted(x, _signed(y, 7)),
    ("vtapp", 4): lambda x, y: _wrap(np.maximum(np.minimum(x, y), _wrap(-y))),
    ("vtapp", 5): lambda _, y: _wrap(y),
    ("vtapp", 6): lambda x, y: _wrap(_signed(x, 8) * _signed(y, 8)),
}


def backend_alu(
    profile: str, opcode: int, dst: np.ndarray, src: np.ndarray, *, use_imm: bool, imm: int
) -> np.ndarray:
    """Return what the ALU of a backend writes, int32, for one instruction's opcode and immediate field.

    profile: a name of `profiles.PROFILES`. Operations in which a backend does as the functional simulator
    are `alu`'s.
    """
    first = src if use_imm and profile in ("chisel", "vtapp") else dst
    key = _SHIFT_LEFT if (profile, opcode) == ("chisel", 3) and imm < 0 else (profile, opcode)
    if key in _BACKENDS:
        y = np.full(first.shape, imm) if use_imm else src
        return _BACKENDS[key](first.astype(np.int64), y.astype(np.int64))
    return alu(AluOpcode(opcode), first, imm if use_imm else src)
