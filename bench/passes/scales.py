"""How a quantisation scale is chosen, and how a ratio of scales becomes integers."""

from __future__ import annotations

import numpy as np

METHODS = ("maximum", "least_error")


def choose_scale(values: np.ndarray, *, low: int, high: int, power_of_two: bool, method: str) -> float:
    """Choose the scale of one tensor: a real value is about scale · q, with q in low..high.

    "maximum" is the smallest scale that saturates nothing; "least_error" tries smaller ones as well and
    takes that with the least squared error over `values`. A tensor of zeros has scale 1.
    """
    if method not in METHODS:
        raise ValueError(f"scale method {method!r} is none of {', '.join(METHODS)}")
    values = np.asarray(values, np.float64)
    needed = max(values.max(initial=0) / high, values.min(initial=0) / low if low else 0.0)
    if needed == 0:
        return 1.0
    if power_of_two:
        # Octaves below the largest useful one: three bits of saturation are more than ever pays.
        largest = 2.0 ** np.ceil(np.log2(needed))
        candidates = largest * 2.0 ** -np.arange(4)
    else:
        candidates = needed * np.linspace(1, 0.5, 26)
    if method == "maximum":
        return float(candidates[0])

    def error(scale: float) -> float:
        return float(np.square(np.clip(np.rint(values / scale), low, high) * scale - values).sum())

    return float(min(candidates, key=error))


def choose_channel_scales(
    weight: np.ndarray, axis: int, *, low: int, high: int, power_of_two: bool, method: str
) -> np.ndarray:
    """Choose a scale for each position of `axis`; a channel of zeros takes the scale of the whole weight.

    Such a channel still has a bias, which is counted in units of its scale.
    """
    if method == "maximum":
        return _channel_maxima(np.moveaxis(weight, axis, 0), low=low, high=high, power_of_two=power_of_two)
    whole = choose_scale(weight, low=low, high=high, power_of_two=power_of_two, method=method)
    return np.array(
        [
            choose_scale(channel, low=low, high=high, power_of_two=power_of_two, method=method)
            if channel.any()
            else whole
            for channel in np.moveaxis(weight, axis, 0)
        ]
    )


def _channel_maxima(channels: np.ndarray, *, low: int, high: int, power_of_two: bool) -> np.ndarray:
    """`choose_scale` by "maximum" of every channel, the first axis, at once."""
    values = channels.reshape(len(channels), -1).astype(np.float64)
    needed = np.maximum(
        values.max(axis=1, initial=0) / high, values.min(axis=1, initial=0) / low if low else 0.0
    )
    needed[needed == 0] = needed.max(initial=0) or 1.0
    return 2.0 ** np.ceil(np.log2(needed)) if power_of_two else needed


def fixed_point(ratio: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Write positive ratios as multiplier · 2^(shift - 31), multiplier in [2^30, 2^31): two int32 arrays.

    ValueError where a ratio is not positive or its shift is outside -31..31.
    """
    ratio = np.asarray(ratio, np.float64)
    if not np.all(np.isfinite(ratio) & (ratio > 0)):
        raise ValueError(f"a ratio of scales must be positive, not {ratio}")
    mantissa, exponent = np.frexp(ratio)
    multiplier = np.rint(mantissa * 2.0**31).astype(np.int64)
    # A mantissa just below 1 rounds to 2^31, which int32 does not hold.
    carried = multiplier == 2**31
    multiplier, shift = np.where(carried, 2**30, multiplier), exponent + carried
    if np.any(np.abs(shift) > 31):
        raise ValueError(f"a ratio of scales must be within 2^-32..2^31, not {ratio}")
    return multiplier.astype(np.int32), shift.astype(np.int32)
