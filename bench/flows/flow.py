"""What a target contributes: its passes, its kernels, and how its instructions are modelled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, Protocol

import tvm

from bench.evaluate.registry import Evaluator
from bench.flows.names import TARGETS
from bench.flows.transformed import Transformed


class Unsupported(Exception):  # noqa: N818 - a verdict, not an error of the bench
    """A graph that a target cannot take; the message is the reason."""


class Flow(Protocol):
    """One accelerator family."""

    target: str
    artefact: str
    """What its machine executes, in a word or two."""
    scheme: str
    """The scheme of :func:`bench.passes.quantize` that gives a graph this target can take, and"""
    data_dtype: str
    """the type of its data."""
    overrides: Mapping[str, Evaluator]
    """Its tensor operators through the models of its instructions."""

    def transform(self, mod: tvm.IRModule) -> Transformed:
        """Run the target's passes on an integer graph. Raises Unsupported."""

    def plain_kernels(self, transformed: Transformed) -> dict[str, tvm.tirx.PrimFunc]:
        """For each kernel the TensorIR function that computes it with plain code, for the device ``host``."""

    def plain_objects(self) -> tuple[bytes, ...]:
        """Compiled objects with the functions that plain kernels call, to be linked with them."""

    def machine_files(self, transformed: Transformed) -> dict[str, bytes]:
        """The machine code of all kernels, as the target's machine loads it."""

    def compile(self, kernels: Mapping[str, Any]) -> dict[str, bytes]:
        """The machine code of kernels by name, each in the form that the target's kernel generators give.

        For tensor cores and Hexagon that is a scheduled PrimFunc, for VTA a program.
        """


def flow_for(target: str, **options: Any) -> Flow:
    """The flow of a target with its options; ValueError names the valid ones of either.

    Options are the parameters of the flow: for ``vta`` those of :class:`bench.flows.vta.VtaFlow`.
    """
    flow = _flow_class(target)
    valid = list(signature(flow).parameters)
    unknown = sorted(set(options) - set(valid))
    if unknown:
        raise ValueError(f"{target} has no option {', '.join(unknown)}: {', '.join(valid) or 'it has none'}")
    return flow(**options)


def _flow_class(target: str) -> Callable[..., Flow]:
    if target == "tensorcore":
        from bench.flows.tensorcore import TensorCoreFlow

        return TensorCoreFlow
    if target == "hexagon":
        from bench.flows.hexagon import HexagonFlow

        return HexagonFlow
    if target == "vta":
        from bench.flows.vta import VtaFlow

        return VtaFlow
    raise ValueError(f"unknown target {target!r}: one of {', '.join(TARGETS)}")
