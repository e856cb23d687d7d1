"""HVX instructions in plain NumPy, one function an instruction, for vectors of 128 bytes.

Semantics: Qualcomm Hexagon HVX Programmer's Reference Manual (80-N2040), checked against qemu-hexagon,
which executes the same instruction, in tests/simulators/test_hvx_instructions.py.
"""

from types import MappingProxyType

import numpy as np

LANES = 128
WORDS = 32

# (dtype of u, dtype of v, lanes of v) -> name of the form. No other pair of types exists in the hardware;
# in particular the second operand alone may be signed, or both of two vectors.
VRMPY_FORMS: MappingProxyType[tuple[str, str, int], str] = MappingProxyType(
    {
        ("uint8", "uint8", LANES): "vrmpyubv",
        ("uint8", "int8", LANES): "vrmpybusv",
        ("int8", "int8", LANES): "vrmpybv",
        ("uint8", "uint8", 4): "vrmpyub",
        ("uint8", "int8", 4): "vrmpybus",
    }
)


def _supported_vrmpy() -> str:
    return ", ".join(f"{name} ({u}[128], {v}[{lanes}])" for (u, v, lanes), name in VRMPY_FORMS.items())


def vrmpy(acc: np.ndarray | None, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Multiply four pairs of bytes, add the products to each 32-bit lane: acc[i] + sum_k u[4i+k] * v[4i+k].

    acc: int32 (..., 32), or None for the form that does not accumulate.
    u: uint8 or int8 (..., 128), a vector register.
    v: uint8 or int8 (..., 128), a vector register, or (..., 4), a scalar register whose four bytes every lane
    uses. Leading dimensions broadcast. Returns int32 (..., 32); the sum wraps mod 2^32, nothing saturates.

    Raises ValueError for operands that no form takes (see VRMPY_FORMS) and for shapes that do not broadcast.
    """
    u, v = np.asarray(u), np.asarray(v)
    u_lanes, v_lanes = (operand.shape[-1] if operand.ndim else 0 for operand in (u, v))
    if u_lanes != LANES or (str(u.dtype), str(v.dtype), v_lanes) not in VRMPY_FORMS:
        raise ValueError(
            f"no vrmpy takes u {u.dtype}[{u_lanes}] and v {v.dtype}[{v_lanes}]; "
            f"there are {_supported_vrmpy()}"
        )
    leading = [u.shape[:-1], v.shape[:-1]]
    if acc is not None:
        acc = np.asarray(acc)
        if acc.dtype != np.int32 or acc.ndim == 0 or acc.shape[-1] != WORDS:
            raise ValueError(f"the accumulator of vrmpy is int32 (..., 32), not {acc.dtype} {acc.shape}")
        leading.append(acc.shape[:-1])
    try:
        np.broadcast_shapes(*leading)
    except ValueError:
        raise ValueError(f"leading dimensions of vrmpy's operands do not broadcast: {leading}") from None

    # Four products of bytes stay within 4 * 255 * 255 < 2^18: exact in int32.
    u_bytes = u.reshape(*u.shape[:-1], WORDS, 4).astype(np.int32)
    v_bytes = v.reshape(*v.shape[:-1], v_lanes // 4, 4).astype(np.int32)
    products = np.einsum("...k,...k->...", u_bytes, v_bytes)
    if acc is None:
        return products
    # NumPy defines overflow only of unsigned integers.
    return np.add(acc.view(np.uint32), products.view(np.uint32)).view(np.int32)


def vdmpyhvsat(acc: np.ndarray | None, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Multiply two pairs of halfwords, add the products to each lane, saturate: the instruction `vdmpyhvsat`.

    acc[i] + u[2i] * v[2i] + u[2i+1] * v[2i+1], exactly, then the nearest int32.

    acc: int32 (..., 32), or None for the form that does not accumulate. u, v: int16 (..., 64). Leading
    dimensions broadcast. Returns int32 (..., 32). Raises ValueError for other operands.
    """
    u, v = np.asarray(u), np.asarray(v)
    if any(operand.dtype != np.int16 or operand.shape[-1:] != (2 * WORDS,) for operand in (u, v)):
        raise ValueError(
            f"vdmpyhvsat takes int16 (..., 64) twice, not {u.dtype} {u.shape} and {v.dtype} {v.shape}"
        )
    pairs = (operand.astype(np.int64).reshape(*operand.shape[:-1], WORDS, 2) for operand in (u, v))
    total = np.einsum("...k,...k->...", *pairs)
    if acc is not None:
        acc = np.asarray(acc)
        if acc.dtype != np.int32 or acc.shape[-1:] != (WORDS,):
            raise ValueError(f"the accumulator of vdmpyhvsat is int32 (..., 32), not {acc.dtype} {acc.shape}")
        total = total + acc
    limits = np.iinfo(np.int32)
    return np.clip(total, limits.min, limits.max).astype(np.int32)
