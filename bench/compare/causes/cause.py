"""A named cause of a mismatch, and the search for those that predict what the device gave."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

SECONDS = 20.0
"""How long signatures are tried on one mismatch at most; some hundred take a second or two."""
MOST_NAMED = 3
LEAST_SHARE = 0.75
"""Of the differing elements, how many a cause has to predict: the rest may be its consequences."""


@dataclass(frozen=True)
class Cause:
    """A signature that predicts the differing elements of a mismatch.

    ``name`` is the kind (lanes swapped, nibble order, sign, …), ``what`` says which. Of the ``differing``
    elements ``predicted`` have the value that this cause gives; ``spared`` is how many others it would change
    where the device is right: where there are such, it acts on a part of the tensor only. ``images`` says of
    how many images all that is, where they were too many to look at.
    """

    name: str
    what: str
    predicted: int
    differing: int
    spared: int
    images: int | None = None


@dataclass(frozen=True)
class Candidate:
    """A cause to be tried: ``predict`` gives the tensor that it would leave behind; None where it cannot."""

    name: str
    what: str
    predict: Callable[[], np.ndarray | None]


def named_causes(
    candidates: Iterable[Candidate], got: np.ndarray, expected: np.ndarray, *, seconds: float = SECONDS
) -> tuple[Cause, ...]:
    """Those of the candidates that predict ``got`` where it is not ``expected``, the likeliest first.

    That is the one that predicts the most elements, and of those the one that changes the fewest others. At
    most MOST_NAMED; candidates are tried in their order until one predicts the whole tensor, or the time is
    over. A single element proves nothing, and neither do elements that are all wrong by the same amount: then
    nothing is named.
    """
    deadline = time.monotonic() + seconds
    differing = got != expected
    count = int(np.count_nonzero(differing))
    errors = (got.astype(np.int64) - expected.astype(np.int64))[differing]
    if count < 2 or len(np.unique(errors)) < 2:
        return ()
    wrong = got[differing]
    found: list[Cause] = []
    for candidate in candidates:
        if time.monotonic() > deadline:
            break
        prediction = candidate.predict()
        if prediction is None or prediction.shape != got.shape:
            continue
        predicted = int(np.count_nonzero(prediction[differing] == wrong))
        if predicted >= LEAST_SHARE * count:
            spared = int(np.count_nonzero((prediction != expected) & ~differing))
            found.append(Cause(candidate.name, candidate.what, predicted, count, spared))
            if predicted == count and spared == 0:
                break
    best = sorted(found, key=lambda cause: (-cause.predicted, cause.spared))
    # One cause may be described in two ways that nothing tells apart.
    different = {(cause.name, cause.predicted, cause.spared): cause for cause in reversed(best)}
    return tuple(cause for cause in best if cause in different.values())[:MOST_NAMED]
