"""The result of a target's passes: the transformed graph, and what became of each layer and tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import tvm


@dataclass(frozen=True)
class Layer:
    """One convolution or dense layer of the integer graph.

    ``instruction`` is the accelerator's instruction that computes it, or None; then ``why_not`` says why it
    stays on the host. ``kernel`` is the private function of the transformed module that holds a tensorised
    layer; ``result`` is the binding of ``main`` that receives its result. ``schedule`` says where the
    schedule of its kernel comes from, of a target that has more than one.
    """

    name: str
    operator: str
    shapes: str
    why_not: str | None
    result: str
    instruction: str | None = None
    kernel: str | None = None
    schedule: str | None = None


@dataclass(frozen=True)
class Correspondence:
    """A tensor of the integer graph and the tensor of the transformed graph that holds its values.

    ``layout`` is the packed layout of the transformed tensor (None: stored as in the integer graph, whose
    axes ``axes`` names), ``shape`` the logical shape without padding. ``dtype`` is int4 or uint4 where the
    values have 4 bits: the transformed tensor is then int32 words of eight of them along its innermost
    dimension, or holds them one by one in 8 bits (:mod:`bench.int4`).
    """

    original: str
    transformed: str
    axes: str
    layout: str | None
    shape: tuple[int, ...]
    dtype: str | None = None


@dataclass(frozen=True)
class Transformed:
    """A graph after the passes of one target, still made of operators."""

    target: str
    mod: tvm.IRModule
    report: tuple[Layer, ...]
    correspondences: tuple[Correspondence, ...]
    operators: tuple[str, ...] = ()
    """The kernels of operators between the layers, where the target computes those too."""
    on_host: Mapping[str, str] = field(default_factory=dict)
    """Of the operators on packed tensors that the target leaves to the host, by their bindings, why."""

    def correspondence(self, transformed: str) -> Correspondence | None:
        """What the binding ``transformed`` of ``main`` holds of the integer graph, if anything."""
        return next((entry for entry in self.correspondences if entry.transformed == transformed), None)
