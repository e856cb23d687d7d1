"""How close the results of an integer graph are to those of the float one it stands for."""

from __future__ import annotations

import numpy as np


def cosine_similarity(one: np.ndarray, other: np.ndarray) -> float:
    """The smallest cosine between the results of two graphs for one image, the first axis counting images.

    It says how far quantisation turns a result, whatever its scale, and needs no labels: 1 for results that
    are the same but for a positive factor, 0 where one of them is all zeros.
    """
    if one.shape != other.shape:
        raise ValueError(f"results of shapes {one.shape} and {other.shape} cannot be compared")
    left, right = (array.reshape(len(array), -1).astype(np.float64) for array in (one, other))
    lengths = np.sqrt(np.square(left).sum(axis=1) * np.square(right).sum(axis=1))
    products = (left * right).sum(axis=1)
    return float(np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0).min())
