"""A kernel verified in many shapes, and the smallest of them in which it fails."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol

import tvm
from tvm.tirx import PrimFunc

from bench.compare.verdict import Verdict

DEFAULT_EXAMPLES = 20
"""Shapes that are drawn from a strategy."""
SHRINKING_SECONDS = 60.0
"""How long a smaller shape that fails too is looked for."""
ENDS_AT_ONCE = ("device-missing",)
"""Verdicts that no other shape would change."""


def kernel_of_shape(kernel: Any, block: Any) -> Callable[[Any], tuple[Any, Any]]:
    """A function from a shape to a kernel and what it schedules; ValueError where neither depends on it."""
    if block is not None:
        if not (_is_function(block) and _is_function(kernel)):
            raise ValueError(
                "with shapes, block is a function that makes the PrimFunc of a shape, and the kernel a "
                "function that schedules it"
            )
        return lambda shape: (kernel, block(shape))
    if not _is_function(kernel):
        raise ValueError("with shapes, the kernel is a function of a shape, or block is one")
    return lambda shape: (kernel(shape), None)


def _is_function(given: Any) -> bool:
    """A PrimFunc can be called as well, and is no function of ours."""
    return callable(given) and not isinstance(given, PrimFunc | tvm.IRModule)


class Verify(Protocol):
    """Verifies one shape."""

    def __call__(self, shape: Any, *, explain: bool) -> Verdict:
        """``explain``: whether smallest operands and causes are looked for as well."""
        ...


def verify_shapes(verify: Verify, shapes: Any, *, examples: int = DEFAULT_EXAMPLES, seed: int = 0) -> Verdict:
    """Verify shape after shape until one fails, and then smaller ones, as Hypothesis shrinks.

    ``shapes`` is a sequence, of which every one is verified until one fails, or a strategy, of which
    ``examples`` are drawn from ``seed``. The verdict is that of the smallest failing shape, or *exact* with
    the layers and counters of all; ``shape`` and ``shapes_tried`` say which and how many. Raises ValueError
    for shapes that are neither, and what ``verify`` raises.
    """
    tried: dict[str, Verdict] = {}

    def verdict_of(shape: Any) -> Verdict:
        key = repr(shape)
        if key not in tried:
            tried[key] = replace(verify(shape, explain=False), shape=key)
        return tried[key]

    if isinstance(shapes, Sequence):
        if not shapes:
            raise ValueError("there is no shape to verify")
        failing = list(islice((shape for shape in shapes if not verdict_of(shape).exact), 1))
    else:
        failing = _smallest_failing(verdict_of, shapes, examples, seed)
    if not failing:
        return replace(_all_exact(list(tried.values())), shapes_tried=len(tried))
    explained = verify(failing[0], explain=True)
    return replace(explained, shape=repr(failing[0]), shapes_tried=len(tried))


def _all_exact(verdicts: Sequence[Verdict]) -> Verdict:
    totals: Counter[str] = Counter()
    for verdict in verdicts:
        totals.update(verdict.counters)
    return replace(
        verdicts[0],
        shape=None,
        counters=dict(totals),
        layers=[layer for verdict in verdicts for layer in verdict.layers],
        seconds=sum(verdict.seconds for verdict in verdicts),
    )


class _Fails(Exception):  # noqa: N818 - how Hypothesis is told that an example is of interest
    pass


def _smallest_failing(
    verdict_of: Callable[[Any], Verdict], shapes: Any, examples: int, seed: int
) -> list[Any]:
    """The smallest shape that fails, of a strategy; none where all are exact."""
    import hypothesis
    from hypothesis.strategies import SearchStrategy

    if not isinstance(shapes, SearchStrategy):
        raise ValueError(
            f"shapes are a sequence or a Hypothesis strategy of shapes, not a {type(shapes).__name__}"
        )
    failing: dict[str, Any] = {}
    found: list[Verdict] = []
    deadline = float("inf")

    def attempt(shape: Any) -> None:
        nonlocal deadline
        key = repr(shape)
        is_over = found and (time.monotonic() > deadline or found[0].verdict in ENDS_AT_ONCE)
        if is_over and key not in failing:
            return
        verdict = verdict_of(shape)
        if verdict.exact:
            return
        if not found:
            deadline = time.monotonic() + SHRINKING_SECONDS
        found.append(verdict)
        # The last of them is the smallest: Hypothesis ends with it.
        failing.pop(key, None)
        failing[key] = shape
        raise _Fails

    test = hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        suppress_health_check=list(hypothesis.HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
        verbosity=hypothesis.Verbosity.quiet,
    )(hypothesis.seed(seed)(hypothesis.given(shapes)(attempt)))
    try:
        test()
    except _Fails:
        return [list(failing.values())[-1]]
    return []
