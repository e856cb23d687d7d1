"""Drivers of boards: a class in a file of the user's own, that is a machine of one target."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from bench.devices.names import split_driver

if TYPE_CHECKING:
    from bench.devices.machines import Machine

MEMBERS = ("target", "hardware", "missing", "call", "close")
"""What a driver has: those of :class:`bench.devices.machines.Machine`, and the name of its target."""


def driver_class(device: str, target: str) -> type[Machine]:
    """The class that a device ``FILE.py:CLASS`` names, to run artefacts of ``target``.

    ValueError where there is no such file or class, or where it is no driver of that target.
    """
    file, name = split_driver(device)
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"device {device!r}: there is no file {file}")
    module_name = f"bitexact_driver_{path.stem}"
    specification = importlib.util.spec_from_file_location(module_name, path)
    assert specification
    assert specification.loader
    module = sys.modules[module_name] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    driver = getattr(module, name, None)
    if not isinstance(driver, type):
        raise ValueError(f"device {device!r}: {file} has no class {name}")
    lacking = [member for member in MEMBERS if not hasattr(driver, member)]
    if lacking:
        raise ValueError(f"device {device!r}: {name} lacks {', '.join(lacking)} (docs/vta_driver.md)")
    if driver.target != target:  # type: ignore[attr-defined]
        raise ValueError(f"device {device!r} runs the target {driver.target}, not {target}")  # type: ignore[attr-defined]
    return cast("type[Machine]", driver)
