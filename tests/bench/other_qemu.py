"""Something else in the place of qemu-hexagon."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

QEMU = shutil.which("qemu-hexagon") or "qemu-hexagon"


def replace_qemu(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Find a shell script where qemu-hexagon was; in it, ``$QEMU`` is the real one."""
    program = folder / "qemu-hexagon"
    program.write_text(f"#!/bin/sh\nQEMU={QEMU}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
