"""Rounding of floats."""

from __future__ import annotations

import numpy as np

from bench.evaluate.registry import OperatorCall, evaluates


@evaluates("relax.round")
def round_to_even(call: OperatorCall) -> np.ndarray:
    """Evaluate the nearest integer; of two that are as near, the even one."""
    return np.rint(call.arguments[0])
