"""Faults in machine code and in the files that hold it: the faults of ``bitexact run --inject``, and more."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from bench.audit.fault import AuditFault, Plant
from bench.audit.planting import around, other_text
from bench.faults import FAULTS as INJECTED
from bench.faults import Fault
from bench.machine_files import HEXAGON_PROGRAM
from kernels.faults import FaultNotPlanted

Files = Mapping[str, bytes]


def _in_files(change: Callable[[Files], dict[str, bytes]]) -> Plant:
    """Change an artefact's machine code on its way into the file."""

    def wrap(lower: Callable[..., Any]) -> Callable[..., Any]:
        def lowered(module: Any, files: Files, **options: Any) -> Any:
            return lower(module, change(files), **options)

        return lowered

    return around("bench.pipeline:lower_for_machine", wrap)


def _injected(fault: Fault) -> AuditFault:
    if fault.machine:
        plant = _in_files(fault.machine)
    else:
        assert fault.graph is not None
        graph = fault.graph

        def wrap(build: Callable[..., Any]) -> Callable[..., Any]:
            def built(self: Any, transformed: Any, device: str) -> Any:
                return build(self, replace(transformed, mod=graph(transformed.mod)), device)

            return built

        plant = around("bench.pipeline:_Run.build", wrap)
    return AuditFault(fault.name, "artefact", fault.what, f"device-agrees/{fault.target}", plant)


def _ptx(old: str, new: str) -> Plant:
    """Replace the first place that matches in every PTX file that has one."""

    def change(files: Files) -> dict[str, bytes]:
        changed = {
            name: re.sub(old, new, content.decode(), count=1).encode()
            for name, content in files.items()
            if name.endswith(".ptx")
        }
        if all(files[name] == content for name, content in changed.items()):
            raise FaultNotPlanted(f"no PTX file has {old!r}")
        return {**files, **changed}

    return _in_files(change)


def _vta(change_stream: Callable[[list[Any]], list[Any]]) -> Plant:
    """Change the instructions of every VTA program."""

    def change(files: Files) -> dict[str, bytes]:
        from simulators.vta.isa import decode, encode
        from simulators.vta.program import Program

        changed = {}
        for name, content in files.items():
            if not name.endswith(".vta"):
                continue
            program = Program.from_bytes(content)
            stream = change_stream(decode(program.insns, program.config))
            changed[name] = replace(program, insns=encode(stream, program.config)).to_bytes()
        if all(files[name] == content for name, content in changed.items()):
            raise FaultNotPlanted("no program has such an instruction")
        return {**files, **changed}

    return _in_files(change)


def _first(kind: str, **keys: Any) -> Callable[[list[Any]], list[Any]]:
    """Change fields of the first instruction of a kind that has other values there."""

    def change(stream: list[Any]) -> list[Any]:
        for place, each in enumerate(stream):
            if type(each).__name__ == kind and any(getattr(each, key) != keys[key] for key in keys):
                return [*stream[:place], replace(each, **keys), *stream[place + 1 :]]
        return stream

    return change


def _without_finish(stream: list[Any]) -> list[Any]:
    return [each for each in stream if type(each).__name__ != "Finish"]


def _cut_short(files: Files) -> dict[str, bytes]:
    elf = files[HEXAGON_PROGRAM]
    return {**files, HEXAGON_PROGRAM: elf[: len(elf) // 2]}


def _kernels_exchanged(files: Files) -> dict[str, bytes]:
    """Let two kernels of the same sizes have each other's programs."""
    from simulators.vta.program import Program

    programs = {name: Program.from_bytes(content) for name, content in files.items() if name.endswith(".vta")}
    name = max(programs, key=lambda each: len(programs[each].uops))
    program = programs[name]
    uops = program.uops.copy()
    uops[: len(uops) // 2] = uops[: len(uops) // 2][::-1]
    return {**files, name: replace(program, uops=uops).to_bytes()}


def _fault(name: str, what: str, check: str, plant: Plant) -> AuditFault:
    return AuditFault(name, "artefact", what, check, plant)


FAULTS = [
    *(_injected(fault) for fault in INJECTED.values()),
    _fault(
        "ptx-without-a-barrier",
        "PTX: the first bar.sync of each kernel is gone",
        "machine-findings/tensorcore",
        _ptx(r"bar\.sync\s+0;", ""),
    ),
    _fault(
        "ptx-reads-beyond",
        "PTX: a load from global memory is 64 MiB further on",
        "machine-findings/tensorcore",
        _ptx(r"(ld\.global\.nc\.u32\s+%r\d+, \[%rd\d+)(?:\+\d+)?\]", r"\1+67108864]"),
    ),
    _fault(
        "ptx-unknown-instruction",
        "PTX: an instruction that the machine does not have",
        "machine-goes-on/tensorcore",
        _ptx(r"wmma\.mma\.sync", "wmma.mmb.sync"),
    ),
    _fault(
        "elf-cut-short",
        "ELF: half of the file is missing",
        "machine-goes-on/hexagon",
        _in_files(_cut_short),
    ),
    _fault(
        "vta-without-finish",
        "program: no FINISH at the end",
        "machine-findings/vta",
        _vta(_without_finish),
    ),
    _fault(
        "vta-a-signal-is-missing",
        "program: the first LOAD does not push the token that a GEMM waits for",
        "machine-findings/vta",
        _vta(_first("Load", push_next=False)),
    ),
    _fault(
        "vta-load-beyond-sram",
        "program: a LOAD writes to the last element of its memory and on",
        "machine-findings/vta",
        _vta(_first("Load", sram_base=65535)),
    ),
    _fault(
        "vta-store-to-the-wrong-row",
        "program: a STORE begins one element further on",
        "device-agrees/vta",
        _vta(
            lambda stream: [
                replace(each, dram_base=each.dram_base + 1) if type(each).__name__ == "Store" else each
                for each in stream
            ]
        ),
    ),
    _fault(
        "vta-uops-reversed",
        "program: half of the micro-ops of the largest kernel stand in reverse order",
        "device-agrees/vta",
        _in_files(_kernels_exchanged),
    ),
    _fault(
        "artefact-format-ignored",
        "artefacts of any format are read",
        "artefact-refused",
        other_text("bench.artifact:Artifact.from_bytes", 'if manifest.get("format") != FORMAT:', "if False:"),
    ),
    _fault(
        "artefact-of-another-target",
        "every artefact is read as one for tensor cores",
        "artefact-refused",
        other_text("bench.artifact:Artifact.from_bytes", 'manifest["target"]', '"tensorcore"'),
    ),
    _fault(
        "elf-of-any-machine",
        "an ELF for another processor is started",
        "elf-refused",
        other_text("simulators.hvx.qemu:check_elf", "if machine != 164:", "if False:"),
    ),
    _fault(
        "elf-segments-unchecked",
        "an ELF whose segments lead outside the file is started",
        "elf-refused",
        other_text("simulators.hvx.qemu:check_elf", "if offset + size > len(elf):", "if False:"),
    ),
    _fault(
        "vta-checksum-ignored",
        "a VTA program with a bit flipped is run",
        "vta-refused",
        other_text(
            "simulators.vta.program:Program.from_bytes", "if zlib.crc32(body) != checksum:", "if False:"
        ),
    ),
]
