"""How a device is named at the prompt and in the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

LOCAL_DEVICES: Mapping[str, str] = {
    "host": "this CPU: TVM compiles the transformed graph, instructions as plain code",
    "sim": "the target's machine: the PTX machine, qemu-hexagon, the VTA machine",
    "cuda": "the GPU of this computer, for the target tensorcore",
}
DEVICES: Mapping[str, str] = {
    **LOCAL_DEVICES,
    "FILE.py:CLASS": "a board, by a driver of your own (docs/vta_driver.md)",
    "rpc://HOST:PORT": "what a TVM RPC server serves (bitexact serve)",
    "tracker://HOST:PORT/KEY": "the next free server of that key of a TVM RPC tracker (bitexact tracker)",
}


@dataclass(frozen=True)
class Server:
    """A TVM RPC server."""

    host: str
    port: int

    @property
    def address(self) -> str:
        """Host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Tracked(Server):
    """Any server of ``key`` that a TVM RPC tracker knows; host and port are the tracker's."""

    key: str

    @property
    def name(self) -> str:
        """The device's name."""
        return f"tracker://{self.address}/{self.key}"


def parse_remote(device: str) -> Server | Tracked | None:
    """What an ``rpc://HOST:PORT`` or ``tracker://HOST:PORT/KEY`` device names; None for any other name."""
    try:
        parts = urlsplit(device)
        host, port, key = parts.hostname, parts.port, parts.path.removeprefix("/")
    except ValueError:
        return None
    if not host or not port or parts.query or parts.fragment:
        return None
    if parts.scheme == "rpc" and not parts.path:
        return Server(host, port)
    # TVM separates a key from what follows it by a blank or a colon.
    if parts.scheme == "tracker" and key and not any(mark in key for mark in "/: "):
        return Tracked(host, port, key)
    return None


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
    if device not in LOCAL_DEVICES and not is_driver(device) and parse_remote(device) is None:
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
