"""Every instruction of the machine, each in one place; importing this fills `forms.DEFINITIONS`."""

from simulators.ptx.instructions import (
    arithmetic,
    asynchronous,
    atomic,
    comparison,
    control,
    conversion,
    floating,
    logic,
    mma,
    movement,
    warp,
    wmma,
)

__all__ = [
    "arithmetic",
    "asynchronous",
    "atomic",
    "comparison",
    "control",
    "conversion",
    "floating",
    "logic",
    "mma",
    "movement",
    "warp",
    "wmma",
]
