"""A VTA program on paper: what it moves and computes, how long it takes, and its instructions."""

from __future__ import annotations

from typing import Any

from tabulate import tabulate

from simulators.vta import Program, explain
from simulators.vta.isa import disassemble


def summary(program: Program) -> dict[str, Any]:
    """What ``bitexact list --program`` shows, as numbers. Raises ValueError for an illegal instruction."""
    found = explain(program)
    cycles = found.estimate
    return {
        "configuration": program.config.bitstream,
        "instructions": found.instructions,
        "micro-ops": found.uops,
        "bytes": found.nbytes,
        "image": program.dram is not None,
        "tensors": [
            {
                "tensor": each.name,
                "role": each.role,
                "address": f"{each.address:#x}",
                "shape": list(each.shape),
                "dtype": each.dtype,
            }
            for each in program.buffers
        ],
        "memories": [
            {
                "memory": each.memory,
                "transfers": each.instructions,
                "bytes": each.nbytes,
                "zeros": each.zeros,
                "elements": each.elements,
                "of": each.depth,
                "occupancy": round(each.occupancy, 4),
            }
            for each in found.memories
        ],
        "operations": [
            {
                "operation": each.operation,
                "instructions": each.instructions,
                "micro-op iterations": each.iterations,
                "cycles": each.cycles,
            }
            for each in found.operations
        ],
        "cycles": {
            "all": cycles.cycles,
            "load": cycles.load,
            "compute": cycles.compute,
            "store": cycles.store,
            "gemm": cycles.gemm,
            "alu": cycles.alu,
            "gemm core busy": round(cycles.utilisation, 4),
        },
        "problems": [
            *([found.problem] if found.problem else []),
            *([f"{found.unfinished} instructions never get their tokens"] if found.unfinished else []),
        ],
    }


def text_of(program: Program, *, instructions: bool) -> str:
    """The summary as tables, and where it is wanted one line for each instruction."""
    found = summary(program)
    cycles = found["cycles"]
    parts = [
        f"VTA {found['configuration']}: {found['instructions']:,} instructions, "
        f"{found['micro-ops']:,} micro-ops, {found['bytes']:,} bytes between DRAM and SRAM"
        + (", with its DRAM image" if found["image"] else ""),
        _table(found["tensors"]),
        _table(
            [
                each | {"bytes": f"{each['bytes']:,}", "occupancy": f"{each['occupancy']:.1%}"}
                for each in found["memories"]
            ]
        ),
        _table(
            [
                each | {name: f"{each[name]:,}" for name in ("micro-op iterations", "cycles")}
                for each in found["operations"]
            ]
        ),
        f"about {cycles['all']:,} cycles: load {cycles['load']:,}, compute {cycles['compute']:,} (GEMM "
        f"{cycles['gemm']:,}, ALU {cycles['alu']:,}), store {cycles['store']:,}, overlapping as the tokens "
        f"permit; the GEMM core multiplies in {cycles['gemm core busy']:.1%} of them",
        *found["problems"],
    ]
    if instructions:
        lines = disassemble(program.insns, program.config)
        parts.append("\n".join(f"{index:6}  {line}" for index, line in enumerate(lines)))
    return "\n\n".join(part for part in parts if part)


def _table(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    words = {"tensor", "role", "address", "shape", "dtype", "memory", "operation"}
    align = ["left" if name in words else "right" for name in rows[0]]
    return str(tabulate(rows, headers="keys", disable_numparse=True, colalign=align))
