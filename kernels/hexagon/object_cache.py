"""Compiled objects, kept in the user's cache directory under a hash of all that they depend on.

An entry is the SHA-256 of an object and then the object. Entries are written whole, to a temporary name, and
renamed, so that any number of processes may use the directory at once; one that is damaged is built again. A
directory that cannot be written is done without. Nothing is ever removed: deleting the directory, or any of
its files, is safe at any time.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

_DIGEST_BYTES = 32
_SUFFIX = ".object"


def directory() -> Path:
    """Where objects are kept: `$XDG_CACHE_HOME/bitexact/hexagon`, else `~/.cache/bitexact/hexagon`."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "bitexact" / "hexagon"


def entries() -> list[Path]:
    """The files of all objects that are kept."""
    return sorted(directory().glob(f"*{_SUFFIX}"))


def kept_or_built(depends_on: Sequence[str], build: Callable[[], bytes]) -> bytes:
    """Give the object that was kept under these texts, else build it and keep it.

    `depends_on` is everything that decides what is built: the source, the options, and the versions of the
    compiler.
    """
    key = hashlib.sha256()
    for text in depends_on:
        content = text.encode()
        key.update(len(content).to_bytes(8, "little") + content)
    path = directory() / f"{key.hexdigest()}{_SUFFIX}"
    found = _read(path)
    if found is None:
        found = build()
        _write(path, found)
    return found


def _read(path: Path) -> bytes | None:
    """Read the object of an entry; None where there is no such entry, or a damaged one."""
    try:
        entry = path.read_bytes()
    except OSError:
        return None
    digest, content = entry[:_DIGEST_BYTES], entry[_DIGEST_BYTES:]
    return content if hashlib.sha256(content).digest() == digest else None


def _write(path: Path, content: bytes) -> None:
    """Keep an object, so that other processes see all of it or nothing."""
    written = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            written = file.name
            file.write(hashlib.sha256(content).digest() + content)
        os.replace(written, path)
    except OSError:  # A cache only saves time.
        if written:
            with contextlib.suppress(OSError):
                os.unlink(written)
