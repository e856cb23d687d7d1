"""Resizing of images, to the nearest element: the way of it in which no value is computed."""

from __future__ import annotations

import numpy as np

from bench.evaluate.registry import OperatorCall, evaluates
from bench.layout import pack, unpack


@evaluates("relax.image.resize2d")
def resize2d(call: OperatorCall) -> np.ndarray:
    """Evaluate a resize to the nearest element.

    In integers, so that no quotient is rounded by accident: position i of `new` stands for floor(i·old/new)
    of `old` (coordinates "asymmetric", rounding "floor"), or for the element in which its centre lies,
    floor((2·i + 1)·old / (2·new)) ("half_pixel", rounding "round"; the two agree for whole factors).
    """
    data, size = call.arguments
    attributes = call.attributes
    way = tuple(attributes[name] for name in ("method", "coordinate_transformation_mode", "rounding_method"))
    layout = attributes["layout"]
    image = unpack(data, layout, target="NCHW")
    for axis, new in zip((2, 3), size, strict=True):
        old, positions = image.shape[axis], np.arange(new)
        if way == ("nearest_neighbor", "asymmetric", "floor"):
            nearest = positions * old // new
        elif way == ("nearest_neighbor", "half_pixel", "round") and new % old == 0:
            nearest = (2 * positions + 1) * old // (2 * new)
        else:
            raise ValueError(
                f"relax.image.resize2d in {call.name!r}: {', '.join(way)} to {new} of {old} is not evaluated;"
                " nearest_neighbor is, asymmetric with floor, or half_pixel with round by a whole factor"
            )
        image = image.take(nearest, axis=axis)
    return pack(image, layout, source="NCHW")
