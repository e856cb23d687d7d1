"""What can be wrong behind a product: shifts, roundings, limits, steps that are not there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bench.compare.causes.signature import Signature
from bench.compare.causes.straight import Evaluate, Straight
from bench.evaluate.registry import OperatorCall

REQUANTIZE, RIGHT_SHIFT, LEFT_SHIFT = "bitexact.requantize", "relax.right_shift", "relax.left_shift"
ROUNDINGS = ("floor", "half_even", "double", "half_up")
# Operators that a kernel may leave out: their result has the type of what they read.
OPTIONAL = ("relax.nn.relu", "relax.clip", "relax.maximum", "relax.minimum", "relax.add")


def behind_signatures(kernel: Straight) -> Iterator[Signature]:
    """Each operator behind the product, wrong by itself."""
    for place in kernel.named(REQUANTIZE):
        # The operator's shift counts to the left.
        for more in (1, -1):
            yield Signature("shift", f"requantised by {_bits(more)}", {place: _added(2, -more)})
        right = kernel.steps[place].call.attributes["rounding"]
        for rounding in ROUNDINGS:
            if rounding != right:
                what = f"requantised with rounding {rounding} instead of {right}"
                yield Signature("rounding", what, {place: _with("rounding", rounding)})
    for place in kernel.named(RIGHT_SHIFT, LEFT_SHIFT):
        side = "right" if kernel.steps[place].call.operator == RIGHT_SHIFT else "left"
        for more in (1, -1):
            yield Signature("shift", f"shifted to the {side} by {_bits(more)}", {place: _added(1, more)})
    for place in kernel.named(*OPTIONAL):
        name = kernel.steps[place].call.operator.rsplit(".", maxsplit=1)[-1]
        yield Signature("step missing", f"{name} was left out", {place: lambda call: call.arguments[0]})


def _bits(more: int) -> str:
    return "one bit more" if more > 0 else "one bit less"


def _added(argument: int, step: int) -> Evaluate:
    def evaluated(call: OperatorCall) -> Any:
        arguments = list(call.arguments)
        arguments[argument] = np.asarray(arguments[argument] + np.int32(step))
        return replace(call, arguments=tuple(arguments)).default()

    return evaluated


def _with(attribute: str, value: Any) -> Evaluate:
    def evaluated(call: OperatorCall) -> Any:
        return replace(call, attributes={**call.attributes, attribute: value}).default()

    return evaluated
