"""Faults in machine code: each target's own, applied to the files of an artefact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from bench.machine_files import HEXAGON_PROGRAM, HEXAGON_TWIN
from kernels.faults import FaultNotPlanted

Plant = Callable[[Mapping[str, bytes]], dict[str, bytes]]


def in_ptx(fault: str) -> Plant:
    """A fault of :mod:`kernels.tensorcore.faults` in the PTX of one kernel."""

    def edit(content: bytes) -> bytes:
        edited: str = getattr(import_module("kernels.tensorcore.faults"), fault)(content.decode())
        return edited.encode()

    return _in_largest(".ptx", edit)


def in_elf(fault: str) -> Plant:
    """A fault of :mod:`kernels.hexagon.faults` in the ELF that holds all kernels."""

    def plant(files: Mapping[str, bytes]) -> dict[str, bytes]:
        edited = getattr(import_module("kernels.hexagon.faults"), fault)(files[HEXAGON_PROGRAM])
        twin = import_module("kernels.hexagon.machine_code").without_vrmpy(edited)
        return {**files, HEXAGON_PROGRAM: edited, HEXAGON_TWIN: twin}

    return plant


def in_vta_programs(fault: str) -> Plant:
    """A fault of :mod:`kernels.vta.faults` in the program of one kernel."""

    def edit(content: bytes) -> bytes:
        edited: bytes = getattr(import_module("kernels.vta.faults"), fault)(content)
        return edited

    return _in_largest(".vta", edit)


def _in_largest(suffix: str, edit: Callable[[bytes], bytes]) -> Plant:
    """Edit the largest file in which the fault finds something to act on."""

    def plant(files: Mapping[str, bytes]) -> dict[str, bytes]:
        candidates = sorted(
            (name for name in files if name.endswith(suffix)), key=lambda name: -len(files[name])
        )
        problems = []
        for name in candidates:
            try:
                return {**files, name: edit(files[name])}
            except FaultNotPlanted as problem:
                problems.append(f"{name}: {problem}")
        raise FaultNotPlanted("; ".join(problems) or f"the artefact has no {suffix} file")

    return plant
