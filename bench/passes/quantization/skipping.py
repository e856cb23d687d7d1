"""Which layers of a float graph are left out of the 8 bits."""

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


def skipped_layers(function: relax.Function, chosen: Sequence[str | int]) -> frozenset[str]:
    """The names of chosen layers: by name, or by index in the order of execution, negative from the end."""
    layers = layers_of(function)
    names = set()
    for choice in chosen:
        if isinstance(choice, str):
            if choice not in layers:
                raise ValueError(f"skip_layers: no layer {choice!r}; there are {', '.join(layers)}")
            names.add(choice)
        elif -len(layers) <= choice < len(layers):
            names.add(layers[choice])
        else:
            raise ValueError(
                f"skip_layers: no layer {choice}; the {len(layers)} layers have indices "
                f"{-len(layers)}..{len(layers) - 1}"
            )
    return frozenset(names)
