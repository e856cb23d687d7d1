"""What devices say of tensor instructions: simulators count those executed, a GPU knows only its code."""

from __future__ import annotations

from collections.abc import Mapping

EXECUTED = "tensor_instructions"
"""The accelerator's own instructions that were executed: measured."""
IN_CODE = "tensor_instructions_in_code"
"""How many of them stand in the kernel's machine code, each once, however often it is executed."""


def executed(counters: Mapping[str, int]) -> int | None:
    """How many tensor instructions were executed; None where the device does not count them."""
    if EXECUTED not in counters and IN_CODE in counters:
        return None
    return counters.get(EXECUTED, 0)


def none_used(counters: Mapping[str, int]) -> bool:
    """Whether it is certain that a kernel used no tensor instruction: none executed, or none in its code."""
    return not (counters.get(EXECUTED) or counters.get(IN_CODE))
