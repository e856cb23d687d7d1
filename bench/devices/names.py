"""How a device is named at the prompt and in the API."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

DEVICES: Mapping[str, str] = {
    "host": "this CPU: TVM compiles the transformed graph, instructions as plain code",
    "sim": "the target's machine: the PTX machine, qemu-hexagon, the VTA machine",
    "cuda": "the GPU of this computer, for the target tensorcore",
    "rpc://HOST:PORT": "the same machines behind a TVM RPC server (bitexact serve)",
}


def parse_rpc(device: str) -> tuple[str, int] | None:
    """Host and port of an ``rpc://HOST:PORT`` device; None for any other name."""
    parts = urlsplit(device)
    if parts.scheme != "rpc" or not parts.hostname or parts.port is None:
        return None
    return parts.hostname, parts.port


def check(device: str) -> str:
    """The name itself if it names a device; otherwise a ValueError that lists the forms."""
    try:
        known = device in ("host", "sim", "cuda") or parse_rpc(device) is not None
    except ValueError:
        known = False
    if not known:
        raise ValueError(f"unknown device {device!r}: one of {', '.join(DEVICES)}")
    return device


def check_target(device: str, target: str) -> None:
    """Raise ValueError where ``device`` names something that does not run ``target``."""
    if device == "cuda" and target != "tensorcore":
        raise ValueError(
            f"device cuda is a GPU: it runs the target tensorcore, not {target} (sim and host do)"
        )


def is_local_machine(device: str) -> bool:
    """Whether a device is a machine of this computer that executes an artefact's machine code."""
    return device in ("sim", "cuda")
