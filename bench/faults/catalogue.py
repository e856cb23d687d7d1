"""The faults by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import tvm

from bench.faults.graph import drop_padding_row, shift_by_one, swap_weight_lanes
from bench.faults.machine_code import (
    in_elf,
    in_ptx,
    in_vta_programs,
)

MachineFiles = Mapping[str, bytes]


@dataclass(frozen=True)
class Fault:
    """One named fault of one target.

    Either ``graph`` changes the transformed graph before the device's kernels are built from it, or
    ``machine`` changes the machine code. The reference knows nothing of it. Both raise
    :class:`kernels.faults.FaultNotPlanted` where they find nothing to change.
    """

    name: str
    target: str
    what: str
    graph: Callable[[tvm.IRModule], tvm.IRModule] | None = None
    machine: Callable[[MachineFiles], dict[str, bytes]] | None = None


def _faults() -> list[Fault]:
    return [
        Fault(
            "tensorcore-swap-fragment-registers",
            "tensorcore",
            "PTX: two registers of a fragment change places in one wmma instruction",
            machine=in_ptx("swap_fragment_registers"),
        ),
        Fault(
            "tensorcore-unsigned-weights",
            "tensorcore",
            "PTX: the wmma instructions take their operands as u8 instead of s8",
            machine=in_ptx("unsigned_weights"),
        ),
        Fault(
            "tensorcore-swap-weight-lanes",
            "tensorcore",
            "layout: two input channels of a packed weight change places",
            graph=swap_weight_lanes,
        ),
        Fault(
            "tensorcore-drop-padding-row",
            "tensorcore",
            "layout: a convolution pads one row less at the top and one more at the bottom",
            graph=drop_padding_row,
        ),
        Fault(
            "hexagon-other-signedness",
            "hexagon",
            "ELF: a vrmpyub becomes vrmpybus, which takes the data as signed, and the other way round",
            machine=in_elf("other_signedness"),
        ),
        Fault(
            "hexagon-drop-accumulate",
            "hexagon",
            "ELF: in each kernel an accumulating vrmpy becomes one that overwrites its accumulator",
            machine=in_elf("drop_accumulate"),
        ),
        Fault(
            "hexagon-swap-weight-lanes",
            "hexagon",
            "layout: two input channels of a packed weight change places",
            graph=swap_weight_lanes,
        ),
        Fault(
            "hexagon-shift-by-one",
            "hexagon",
            "graph: a requantisation shifts by one bit more",
            graph=shift_by_one,
        ),
        Fault(
            "vta-skip-gemm-uop",
            "vta",
            "program: a GEMM instruction leaves out its first micro-op",
            machine=in_vta_programs("skip_gemm_uop"),
        ),
        Fault(
            "vta-shift-by-one",
            "vta",
            "program: an ALU SHR shifts by one bit more",
            machine=in_vta_programs("shift_by_one"),
        ),
        Fault(
            "vta-drop-padding-row",
            "vta",
            "program: a LOAD writes one row of zeros less above its data",
            machine=in_vta_programs("drop_padding_row"),
        ),
        Fault(
            "vta-swap-weight-lanes",
            "vta",
            "layout: two input channels of a packed weight change places",
            graph=swap_weight_lanes,
        ),
    ]


FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in _faults()}


def fault_named(name: str) -> Fault:
    """The fault of that name; ValueError names the valid ones."""
    if name not in FAULTS:
        raise ValueError(f"unknown fault {name!r}: one of {', '.join(FAULTS)}")
    return FAULTS[name]
