"""The PTX machine: parses PTX text and runs its kernels on NumPy arrays."""

from simulators.ptx.errors import (
    IllegalAddressError,
    InstructionBudgetError,
    KernelTrapError,
    LaunchError,
    PtxError,
    PtxSyntaxError,
    UnknownKernelError,
    UnsupportedInstructionError,
)
from simulators.ptx.launch import Module, parse

__all__ = [
    "IllegalAddressError",
    "InstructionBudgetError",
    "KernelTrapError",
    "LaunchError",
    "Module",
    "PtxError",
    "PtxSyntaxError",
    "UnknownKernelError",
    "UnsupportedInstructionError",
    "parse",
]
