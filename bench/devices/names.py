"""How a device is named at the prompt and in the API."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

DEVICES: Mapping[str, str] = {
    "host": "this CPU: TVM compiles the transformed graph, instructions as plain code",
    "sim": "the target's machine: the PTX machine, qemu-hexagon, the VTA machine",
    "cuda": "the GPU of this computer, for the target tensorcore",
    "FILE.py:CLASS": "a board, by a driver of your own (docs/vta_driver.md)",
    "rpc://HOST:PORT": "the same machines behind a TVM RPC server (bitexact serve)",
}


def parse_rpc(device: str) -> tuple[str, int] | None:
    """Host and port of an ``rpc://HOST:PORT`` device; None for any other name."""
    parts = urlsplit(device)
    if parts.scheme != "rpc" or not parts.hostname or parts.port is None:
        return None
    return parts.hostname, parts.port


def is_driver(device: str) -> bool:
    """Whether a device is named as a class in a file, ``FILE.py:CLASS``."""
    file, _, name = device.rpartition(":")
    return file.endswith(".py") and name.isidentifier()


def split_driver(device: str) -> tuple[str, str]:
    """File and class of a device ``FILE.py:CLASS``."""
    file, _, name = device.rpartition(":")
    return file, name


def check(device: str) -> str:
    """The name itself if it names a device; otherwise a ValueError that lists the forms."""
    try:
        known = device in ("host", "sim", "cuda") or is_driver(device) or parse_rpc(device) is not None
    except ValueError:
        known = False
    if not known:
        raise ValueError(f"unknown device {device!r}: one of {', '.join(DEVICES)}")
    return device


def check_target(device: str, target: str) -> None:
    """Raise ValueError where ``device`` names something that does not run ``target``, or no driver."""
    if is_driver(device):
        from bench.devices.drivers import driver_class

        driver_class(device, target)
    if device == "cuda" and target != "tensorcore":
        raise ValueError(
            f"device cuda is a GPU: it runs the target tensorcore, not {target} (sim and host do)"
        )


def is_local_machine(device: str) -> bool:
    """Whether a device is a machine of this computer that executes an artefact's machine code."""
    return device in ("sim", "cuda") or is_driver(device)
