"""IEEE 754 rounding beyond what NumPy offers: other directions, single roundings, subnormals as zeros.

A result on its way to float32 is held as a float64 rounded to odd: towards zero, with its last bit set where
anything was lost. It has more than twice the bits of a float32 plus two, so rounding it once more gives what
rounding the exact result once would (S. Boldo, G. Melquiond, "Emulation of FMA and correctly rounded sums:
proved algorithms using rounding to odd", 2008).
"""

import numpy as np

DIRECTIONS = "rn rz rm rp"


def flush(a: np.ndarray) -> np.ndarray:
    """.ftz: subnormal float32 become zeros of their sign."""
    return np.where(np.abs(a) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), a), a)


def saturate(a: np.ndarray) -> np.ndarray:
    """.sat: clamp to 0 to 1; NaN and -0 become +0."""
    return np.where(a > 0, np.minimum(a, a.dtype.type(1)), a.dtype.type(0))


def two_sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give a + b rounded to nearest, and exactly what that lost (D. Knuth)."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def two_product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give a * b of float64 rounded to nearest, and exactly what that lost (T. Dekker)."""
    product = a * b
    a_high, a_low = _halves(a)
    b_high, b_low = _halves(b)
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def _halves(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scaled = a * np.float64((1 << 27) + 1)
    high = scaled - (scaled - a)
    return high, a - high


def odd(total: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Round to odd: float64 sums rounded to nearest, and what they lost."""
    bits = total.view(np.int64)
    inexact = (lost != 0) & np.isfinite(total) & (bits & 1 == 0)
    # To the odd neighbour on the lost part's side: away from zero where both have one sign.
    away = (lost > 0) == (total > 0)
    return np.where(inexact, bits + np.where(away, 1, -1), bits).view(np.float64)


def odd_integer(a: np.ndarray) -> np.ndarray:
    """Round integers of any width to odd as float64."""
    if a.dtype.itemsize < 8:
        return a.astype(np.float64)
    magnitude = np.where(a < 0, (~a).view(np.uint64) + np.uint64(1), a.view(np.uint64))
    # 53 bits remain, the lowest set where any of the eleven below was.
    short = magnitude >> np.uint64(11) | ((magnitude & np.uint64(0x7FF)) != 0)
    value = np.where(
        magnitude >> np.uint64(53), short.astype(np.float64) * 2048.0, magnitude.astype(np.float64)
    )
    return np.where(a < 0, -value, value)


def to_float32(a: np.ndarray, direction: str) -> np.ndarray:
    """Round float64 (exact or rounded to odd) to float32: to nearest even, to zero, down or up."""
    nearest = a.astype(np.float32)
    if direction == "rn":
        return nearest
    back = nearest.astype(np.float64)
    infinity = np.float32(np.inf)
    down = np.where(back > a, np.nextafter(nearest, -infinity), nearest)
    up = np.where(back < a, np.nextafter(nearest, infinity), nearest)
    if direction == "rm":
        return np.where(a == 0, nearest, down)
    if direction == "rp":
        # A tiny negative value goes up to -0.
        return np.where((up == 0) & (a < 0), np.float32(-0.0), up)
    return np.where(a < 0, np.where((up == 0) & (a < 0), np.float32(-0.0), up), down)


def fma64(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Give a * b + c of float64, rounded once, where nothing overflows or underflows on the way."""
    product, product_lost = two_product(a, b)
    high, high_lost = two_sum(c, product_lost)
    total, total_lost = two_sum(product, high)
    rest, rest_lost = two_sum(high_lost, total_lost)
    result = total + odd(rest, rest_lost)
    return np.where(np.isfinite(product) & np.isfinite(result), result, a * b + c)
