"""Checks that files which are damaged, foreign or of another format are refused before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from bench.audit.checks.check import Check


def _refused(reads: Mapping[str, Callable[[], object]], error: type[Exception] = ValueError) -> str | None:
    for what, read in reads.items():
        try:
            read()
        except error:
            continue
        return f"{what} was taken"
    return None


def _artifact() -> str | None:
    """An artefact: the right one is read as it was written, damaged ones are not."""
    from bench.artifact import HOST_LIBRARY, MANIFEST, Artifact, TensorSpec

    spec = TensorSpec("data", (2, 3), "int8")
    whole = Artifact("vta", (spec,), (spec,), ("kernel",), b"library", {"kernel.vta": b"program"})
    content = whole.to_bytes()
    if Artifact.from_bytes(content) != whole:
        return "an artefact is read as another one than was written"
    manifest = content.replace(b'"format": 1', b'"format": 7')
    return _refused(
        {
            "an artefact cut short": lambda: Artifact.from_bytes(content[:-40]),
            "an artefact with a bit flipped": lambda: Artifact.from_bytes(
                content.replace(b"library", b"librarx", 1)
            ),
            "an artefact of another format": lambda: Artifact.from_bytes(_repacked(manifest, MANIFEST)),
            "an artefact without a host library": lambda: Artifact.from_bytes(
                _without(content, HOST_LIBRARY)
            ),
        }
    )


def _repacked(content: bytes, name: str) -> bytes:
    """Write a zip again, so that a changed member has the right checksum."""
    import io
    import re
    import zipfile

    text = re.search(rb'\{\s*"format": 7.*?\n\}', content, re.DOTALL)
    assert text is not None
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, text.group())
        archive.writestr("host.so", b"library")
        archive.writestr("machine/kernel.vta", b"program")
    return buffer.getvalue()


def _without(content: bytes, name: str) -> bytes:
    import io
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for member in old.namelist():
            if member != name:
                new.writestr(member, old.read(member))
    return buffer.getvalue()


def _elf() -> str | None:
    """A Hexagon ELF."""
    import struct

    from simulators.hvx.qemu import check_elf

    header = struct.pack(
        "<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 164, 1, 84, 52, 0, 0, 52, 32, 1, 0, 0, 0
    )
    segment = struct.pack("<8I", 1, 0, 0, 0, 128, 128, 5, 4096)
    whole = (header + segment).ljust(128, b"\0")
    check_elf(whole)
    return _refused(
        {
            "an ELF cut short": lambda: check_elf(whole[:100]),
            "an ELF for another machine": lambda: check_elf(whole[:18] + b"\x3e\0" + whole[20:]),
            "an ELF that begins outside its code": lambda: check_elf(
                whole[:24] + struct.pack("<I", 4096) + whole[28:]
            ),
            "an object file": lambda: check_elf(whole[:16] + b"\x01\0" + whole[18:]),
        }
    )


def _vta() -> str | None:
    """A VTA program, and a stream of instructions."""
    from simulators.vta import Config, Program, isa
    from simulators.vta.isa import Finish

    whole = Program(Config(), isa.encode([Finish()]), np.zeros(0, np.uint32), (), 4096)
    content = whole.to_bytes()
    if Program.from_bytes(content).to_bytes() != content:
        return "a program is read as another one than was written"
    damaged = bytes([*content[:-1], content[-1] ^ 1])
    return _refused(
        {
            "a program with a bit flipped": lambda: Program.from_bytes(damaged),
            "a program cut short": lambda: Program.from_bytes(content[:-16]),
            "another file": lambda: Program.from_bytes(b"PTX" + content),
            "a stream of 15 bytes": lambda: isa.words_of(bytes(15)),
            "a configuration that does not add up": lambda: Config(LOG_BLOCK=9),
        }
    )


def _ptx() -> str | None:
    """PTX text, and launches that do not fit."""
    from simulators import ptx

    text = (
        ".version 8.0\n.target sm_80\n.address_size 64\n"
        ".visible .entry one(.param .u64 x)\n{\n  .reg .b32 %r<3>;\n  INSTRUCTION\n  ret;\n}\n"
    )
    values = np.zeros(4, np.int32)

    def launch(instruction: str, kernel: str = "one", grid: int = 1, count: int = 1) -> object:
        module = ptx.parse(text.replace("INSTRUCTION", instruction))
        return module.launch(kernel, grid, 32, [values] * count)

    launch("mov.u32 %r1, 1;")
    return _refused(
        {
            "an instruction that there is not": partial(launch, "frobnicate.u32 %r1, %r2;"),
            "a register that is not declared": partial(launch, "mov.u32 %r9, 1;"),
            "a kernel that there is not": partial(launch, "mov.u32 %r1, 1;", kernel="two"),
            "an empty grid": partial(launch, "mov.u32 %r1, 1;", grid=0),
            "an argument too many": partial(launch, "mov.u32 %r1, 1;", count=2),
        },
        ptx.PtxError,
    )


REFUSAL_CHECKS = [
    Check("artefact-refused", "artefacts that are damaged or foreign", _artifact),
    Check("elf-refused", "ELF files that are damaged or foreign", _elf),
    Check("vta-refused", "VTA programs and configurations that are damaged or foreign", _vta),
    Check("ptx-refused", "PTX and launches that do not fit", _ptx),
]
