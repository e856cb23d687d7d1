"""Element types and the exactness of the arithmetic that the evaluation uses."""

from __future__ import annotations

import ml_dtypes
import numpy as np


def numpy_dtype(name: str) -> np.dtype:
    """Return the NumPy dtype of a TVM element type: int4 and uint4 are those of ml_dtypes."""
    if name in ("int4", "uint4"):
        return np.dtype(getattr(ml_dtypes, name))
    return np.dtype(name)


def is_integer(dtype: np.dtype) -> bool:
    """Tell whether an element type is an integer, the 4-bit ones included."""
    return dtype.kind in "iu" or dtype.name in ("int4", "uint4")


def limits(dtype: np.dtype) -> tuple[int, int]:
    """Smallest and largest value of an integer type."""
    info = ml_dtypes.iinfo(dtype)
    return int(info.min), int(info.max)


def wrap(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert integers to `dtype`, keeping the low bits as the machine does."""
    if dtype.name == "uint4":
        return (values & 15).astype(dtype)
    if dtype.name == "int4":
        return (((values & 15) ^ 8) - 8).astype(dtype)
    return values.astype(dtype)
