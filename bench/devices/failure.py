"""Why a device gave no result."""

from __future__ import annotations


class DeviceFailure(Exception):  # noqa: N818 - it is the domain's word, and not every one is an error
    """A device that is missing, crashed or hung: ``verdict`` says which, the message says how.

    ``lost_server`` is the name of the server that went away while it ran the artefact, ``reruns`` how often
    the artefact was run again on another one.
    """

    def __init__(
        self, verdict: str, message: str, *, lost_server: str | None = None, reruns: int = 0
    ) -> None:
        super().__init__(message)
        self.verdict = verdict
        self.lost_server = lost_server
        self.reruns = reruns


def device_missing(reason: str) -> DeviceFailure:
    """A device that is not there; ``reason`` holds the command that installs it."""
    return DeviceFailure("device-missing", reason)


def crash(message: str) -> DeviceFailure:
    """A simulator or device that died, or refused what it was given."""
    return DeviceFailure("crash", message)


def timeout(message: str) -> DeviceFailure:
    """A simulator or device that did not answer in time."""
    return DeviceFailure("timeout", message)


def last_line(error: Exception) -> str:
    """The type of an error and the last line of its message, where TVM puts what matters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"
