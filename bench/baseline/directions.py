"""Which way a counter is better: a table, by name."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from fnmatch import fnmatchcase


class Better(StrEnum):
    """Which way something is better."""

    LESS = "less"
    MORE = "more"
    NEITHER = "neither"


DIRECTIONS: Mapping[str, Better] = {
    # tensor cores: what an SM issues, and what memory has to move for it
    "warp_instructions": Better.LESS,
    "global_load_bytes": Better.LESS,
    "global_store_bytes": Better.LESS,
    "global_load_sectors": Better.LESS,
    "global_store_sectors": Better.LESS,
    "shared_load_bytes": Better.LESS,
    "shared_store_bytes": Better.LESS,
    "shared_transactions": Better.LESS,
    "shared_bank_conflicts": Better.LESS,
    "local_load_bytes": Better.LESS,
    "local_store_bytes": Better.LESS,
    "const_load_bytes": Better.LESS,
    # of the problem, not of the kernel
    "global_compulsory_bytes": Better.NEITHER,
    "vrmpy_of_products": Better.NEITHER,
    # parts of warp_instructions, which change places when a compiler changes
    "instructions.*": Better.NEITHER,
    # Hexagon
    "packets": Better.LESS,
    "packets per vrmpy": Better.LESS,
    "instructions": Better.LESS,
    "hvx_instructions": Better.LESS,
    # VTA
    "*_load_nbytes": Better.LESS,
    "out_store_nbytes": Better.LESS,
    "estimated_cycles": Better.LESS,
    # fewer may be less padding, or a part that the accelerator no longer computes
    "tensor_instructions": Better.NEITHER,
    "tensor_instructions_in_code": Better.NEITHER,
    "vrmpy": Better.NEITHER,
    "gemm_counter": Better.NEITHER,
    "alu_counter": Better.NEITHER,
    # of a case
    "layers tensorised": Better.MORE,
}
"""Patterns of names, the first that fits is taken; what is not here is better neither way."""

DETAILS = ("instructions.*",)
"""Counters that are parts of another one, and seldom what somebody looks for."""


def better(counter: str) -> Better:
    """Which way ``counter`` is better."""
    for pattern, direction in DIRECTIONS.items():
        if fnmatchcase(counter, pattern):
            return direction
    return Better.NEITHER


def is_known(counter: str) -> bool:
    """Whether the table speaks of ``counter``."""
    return any(fnmatchcase(counter, pattern) for pattern in DIRECTIONS)


def is_detail(counter: str) -> bool:
    """Whether a counter is a part of another."""
    return any(fnmatchcase(counter, pattern) for pattern in DETAILS)
