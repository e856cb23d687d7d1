"""PTX's fundamental types as NumPy dtypes, and how registers hold them."""

import numpy as np

DTYPES: dict[str, np.dtype] = {
    "pred": np.dtype(np.bool_),
    **{
        f"{kind}{bits}": np.dtype(f"{code}{bits // 8}")
        for kind, code in (("u", "u"), ("s", "i"), ("b", "u"))
        for bits in (8, 16, 32, 64)
    },
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
}


def storage(type_: str) -> np.dtype:
    """Give the dtype that a register of that type is held in: its bits, unsigned, whatever they mean."""
    dtype = DTYPES[type_]
    return dtype if dtype == np.bool_ else np.dtype(f"u{dtype.itemsize}")


def as_storage(value: np.ndarray, kept: np.dtype) -> np.ndarray:
    """Turn a result into the bits of a register: as they are, or extended by the sign, or cut."""
    if value.dtype == kept:
        return value
    if value.dtype.itemsize == kept.itemsize:
        return value.view(kept)
    return value.astype(kept)  # to a wider unsigned dtype: NumPy extends a signed value by its sign
