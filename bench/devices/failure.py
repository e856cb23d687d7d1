"""Why a device gave no result."""

from __future__ import annotations


class DeviceFailure(Exception):  # noqa: N818 - it is the domain's word, and not every one is an error
    """A device that is missing, crashed or hung: ``verdict`` says which, the message says how."""

    def __init__(self, verdict: str, message: str) -> None:
        super().__init__(message)
        self.verdict = verdict


def device_missing(reason: str) -> DeviceFailure:
    """A device that is not there; ``reason`` holds the command that installs it."""
    return DeviceFailure("device-missing", reason)


def crash(message: str) -> DeviceFailure:
    """A simulator or device that died, or refused what it was given."""
    return DeviceFailure("crash", message)


def timeout(message: str) -> DeviceFailure:
    """A simulator or device that did not answer in time."""
    return DeviceFailure("timeout", message)
