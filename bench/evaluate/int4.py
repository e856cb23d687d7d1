"""4-bit values and the words that hold eight of them."""

from __future__ import annotations

import numpy as np

from bench import int4
from bench.evaluate.registry import OperatorCall, evaluates


@evaluates("bitexact.pack_int4")
def pack_int4(call: OperatorCall) -> np.ndarray:
    """Evaluate the packing of held values to words."""
    (data,) = call.arguments
    return int4.pack_int4(data)


@evaluates("bitexact.unpack_int4")
def unpack_int4(call: OperatorCall) -> np.ndarray:
    """Evaluate the unpacking of words to held values."""
    (words,) = call.arguments
    return int4.held(int4.unpack_int4(words, call.attributes["dtype"]))


def operands(call: OperatorCall) -> tuple[np.ndarray, np.ndarray]:
    """Data and weight of a convolution or dense layer as values, unpacked where they are words."""
    data, weight = call.arguments
    if call.attributes.get("data_dtype"):
        data = int4.unpack_int4(data, call.attributes["data_dtype"])
    if call.attributes.get("weight_dtype"):
        weight = int4.unpack_int4(weight, call.attributes["weight_dtype"])
    return data, weight
