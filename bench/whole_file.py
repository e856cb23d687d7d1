"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


class CannotWrite(OSError):  # noqa: N818 - it is not an error of ours
    """A file could not be written; the message names it."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name beside it, and rename it: no reader ever sees a part of it.

    What was there before stays where this fails. Raises CannotWrite, as for a full disk.
    """
    try:
        _write(path, content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise CannotWrite(error.errno, error.strerror, str(path)) from error


def _write(path: Path, data: bytes) -> None:
    if path.exists() and not path.is_file():  # a device or a pipe: /dev/stdout
        path.write_bytes(data)
        return
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, _mode(path))
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _mode(path: Path) -> int:
    """The mode of the file that is there, else that of a new one."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
