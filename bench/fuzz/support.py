"""What graphs are drawn for a target: read from the tables of its passes, so that a wrong claim is found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from bench.flows.flow import flow_for
from bench.passes.legal_shapes import LEGAL
from bench.passes.vrmpy import BYTES
from bench.passes.vta.alu import ALU_OPERATORS
from kernels.hexagon.elementwise import BINARY

_ARITHMETIC = ("add", "subtract", "multiply", "maximum", "minimum", "left_shift", "right_shift")


@dataclass(frozen=True)
class Support:
    """What a target's passes take.

    ``pairs`` are the types of data and weight, ``layouts`` those in which a convolution may stand in the
    integer graph, ``scheme`` how it rescales, and ``arithmetic`` its int32 operators between the layers.
    ``dilated``, ``grouped``, ``batched`` and ``padded`` (wider than the kernel reaches) only say what is
    drawn often: the rest is drawn for every target now and then, and what the target does not take has to be
    right on the host.
    """

    target: str
    pairs: tuple[tuple[str, str], ...]
    layouts: tuple[str, ...]
    scheme: str
    arithmetic: tuple[str, ...]
    dilated: bool = False
    grouped: bool = False
    batched: bool = False
    padded: bool = True


def support_of(target: str) -> Support:
    """The support of a target; ValueError for an unknown one."""
    scheme = flow_for(target).scheme
    if target == "tensorcore":
        layouts = ("NCHW", "NHWC", "HWNC")
        pairs = tuple(LEGAL)
        return Support(target, pairs, layouts, scheme, _known(BINARY), dilated=True, batched=True)
    if target == "hexagon":
        pairs = tuple(product(BYTES, BYTES))
        return Support(target, pairs, ("NCHW",), scheme, _known(BINARY), dilated=True, grouped=True)
    names = [name.removeprefix("relax.") for name in ALU_OPERATORS]
    return Support(target, (("int8", "int8"),), ("NCHW",), scheme, _known(names), grouped=True, padded=False)


def _known(names: Iterable[str]) -> tuple[str, ...]:
    """Those that are drawn, always in the same order."""
    return tuple(name for name in _ARITHMETIC if name in set(names))
