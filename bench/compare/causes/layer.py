"""Causes of a layer's mismatch: its kernel in NumPy, with one thing wrong at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import GenericConst, GlobalVar, Op

from bench.compare.causes.behind import behind_signatures
from bench.compare.causes.cause import Candidate, Cause, named_causes
from bench.compare.causes.product import PRODUCTS, product_signatures
from bench.compare.causes.results import result_candidates
from bench.compare.causes.straight import Straight
from bench.flows.transformed import Correspondence, Transformed
from bench.layout import Layout

MOST_IMAGES = 2


def layer_causes(
    transformed: Transformed,
    binding: relax.VarBinding,
    values: Mapping[str, np.ndarray],
    got: np.ndarray,
) -> tuple[Cause, ...]:
    """What would make one binding of ``main`` give ``got``; ``values`` are the right tensors."""
    call = binding.value
    kernel = _kernel(transformed, call)
    if kernel is None:
        return ()
    arguments = [_array(argument, values) for argument in call.args]
    if any(argument is None for argument in arguments):
        return ()
    expected = values[binding.var.name]
    entry = transformed.correspondence(binding.var.name)
    chosen = _Images.of(entry, got, expected)
    if chosen:
        kernel = kernel.of_images(chosen.axis, len(chosen.places))
        arguments = [chosen.taken(argument) for argument in arguments]
        got, expected = chosen.taken(got), chosen.taken(expected)
    straight = kernel

    def candidates() -> Iterator[Candidate]:
        products = straight.named(*PRODUCTS)[:1]
        inside = (product_signatures(straight, place, arguments) for place in products)
        for signature in chain(behind_signatures(straight), *inside):
            yield Candidate(
                signature.name,
                signature.what,
                lambda changes=signature.changes: straight.run(arguments, changes),  # type: ignore[misc]
            )
        yield from result_candidates(got, expected)

    found = named_causes(candidates(), got, expected)
    return tuple(replace(cause, images=len(chosen.places)) for cause in found) if chosen else found


@dataclass(frozen=True)
class _Images:
    """Some images of a batch, counted by one dimension of its tensors: as many as show an error."""

    axis: int
    extent: int
    places: np.ndarray

    @classmethod
    def of(cls, entry: Correspondence | None, got: np.ndarray, expected: np.ndarray) -> _Images | None:
        """The first few images that differ; None where there are few anyway, or none are known."""
        layout = Layout.parse(entry.layout or entry.axes) if entry else None
        if layout is None or "N" not in layout.axes or layout.rank != got.ndim:
            return None
        axis = layout.axes.index("N")
        others = tuple(place for place in range(got.ndim) if place != axis)
        places = np.flatnonzero((got != expected).any(axis=others))[:MOST_IMAGES]
        return cls(axis, got.shape[axis], places) if got.shape[axis] > MOST_IMAGES else None

    def taken(self, array: np.ndarray) -> np.ndarray:
        """A tensor of these images; what has no images stays as it is."""
        has_images = array.ndim > self.axis and array.shape[self.axis] == self.extent
        return array.take(self.places, axis=self.axis) if has_images else array


def _kernel(transformed: Transformed, call: relax.Expr) -> Straight | None:
    if not isinstance(call, relax.Call):
        return None
    if isinstance(call.op, GlobalVar):
        return Straight.of(transformed.mod[call.op])
    return Straight.of_call(call) if isinstance(call.op, Op) else None


def _array(argument: relax.Expr, values: Mapping[str, np.ndarray]) -> Any:
    if isinstance(argument, GenericConst):
        return argument.value.numpy()
    return values.get(argument.name) if isinstance(argument, relax.Var) else None
