"""Which layers of a float graph an option chooses."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax
from tvm.ir import Call, Op

LAYERS = ("relax.nn.conv2d", "relax.nn.conv2d_transpose", "relax.matmul")


def layers_of(function: relax.Function) -> list[str]:
    """Names of the layers, in the order of execution."""
    return [
        binding.var.name
        for block in function.body.blocks
        for binding in block.bindings
        if isinstance(binding.value, Call)
        and isinstance(binding.value.op, Op)
        and binding.value.op.name in LAYERS
    ]


def chosen_layers(function: relax.Function, option: str, chosen: Sequence[str | int]) -> frozenset[str]:
    """The names of chosen layers: by name, or by index in the order of execution, negative from the end.

    ValueError, beginning with the name of the option, for one that there is not.
    """
    layers = layers_of(function)
    names = set()
    for choice in chosen:
        if isinstance(choice, str):
            if choice not in layers:
                raise ValueError(f"{option}: no layer {choice!r}; there are {', '.join(layers)}")
            names.add(choice)
        elif -len(layers) <= choice < len(layers):
            names.add(layers[choice])
        else:
            raise ValueError(
                f"{option}: no layer {choice}; the {len(layers)} layers have indices "
                f"{-len(layers)}..{len(layers) - 1}"
            )
    return frozenset(names)
