"""Reading a bundle: every way in which a directory can fail to be one is one error."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import tvm

import bench.operators  # noqa: F401 - a graph is loaded with the operators it is made of
from bench.artifact import Artifact, ArtifactError, TensorSpec
from bench.bundles import files, options, transformation
from bench.flows.flow import flow_for
from bench.trace import Trace
from bench.versions import versions


class BundleError(ValueError):
    """A directory is no bundle of this format, or is damaged; the message says what is wrong with it."""


@dataclass(frozen=True)
class Bundle:
    """One failing case as it was kept.

    ``verdict`` is that of the run as JSON has it, ``versions`` those of the machine it ran on. ``trace``
    holds graphs, inputs, artefact and options. ``fault`` is the name of the fault that was planted.
    """

    path: Path
    target: str
    device: str
    verdict: Mapping[str, Any]
    versions: Mapping[str, str | None]
    trace: Trace
    seed: int | None = None
    fault: str | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_kernel(self) -> bool:
        """Whether it is a single kernel against a reference, and not a graph."""
        return self.trace.mod is None

    def other_versions(self) -> dict[str, tuple[str | None, str | None]]:
        """What has another version here: its version in the bundle, and the one here."""
        here = versions()
        return {
            name: (self.versions.get(name), here.get(name))
            for name in sorted({*self.versions, *here})
            if self.versions.get(name) != here.get(name)
        }


def read(path: Path | str) -> Bundle:
    """Read a bundle. Nothing in it is executed; BundleError says why a directory is none."""
    folder = Path(path)
    manifest = _manifest(folder)
    contents = _Contents(folder, _entry(manifest, "files", dict))
    target, device = _entry(manifest, "target", str), _entry(manifest, "device", str)
    trace = Trace(profile=manifest.get("profile"))
    try:
        trace.options = options.decode(_entry(manifest, "options", dict))
        flow_for(target, **trace.options)
    except ValueError as error:
        raise BundleError(f"{folder}: {files.MANIFEST}: {error}") from None
    trace.inputs = contents.arrays(files.INPUTS)
    trace.artifact = contents.artifact(target)
    if _entry(manifest, "kind", str) == "kernel":
        _read_kernel(trace, manifest, contents)
    else:
        _read_graph(trace, contents)
    return Bundle(
        path=folder,
        target=target,
        device=device,
        verdict=_entry(manifest, "verdict", dict),
        versions=_entry(manifest, "versions", dict),
        trace=trace,
        seed=manifest.get("seed"),
        fault=manifest.get("fault"),
        notes=manifest.get("notes", {}),
    )


def _manifest(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        what = "is a file: a bundle is a directory" if folder.exists() else "is not there"
        raise BundleError(f"{folder} {what}")
    path = folder / files.MANIFEST
    if not path.is_file():
        raise BundleError(f"{folder} is no bundle: it has no {files.MANIFEST}")
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        raise BundleError(f"{folder}: {files.MANIFEST} is not JSON: {error}") from None
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise BundleError(f"{folder} is no bundle: {files.MANIFEST} has no format")
    if manifest["format"] != files.FORMAT:
        raise BundleError(f"{folder}: bundle format {manifest['format']} is not supported: {files.FORMAT} is")
    return manifest


def _entry(manifest: Mapping[str, Any], name: str, kind: type) -> Any:
    if name not in manifest:
        raise BundleError(f"{files.MANIFEST} lacks {name!r}")
    if not isinstance(manifest[name], kind):
        raise BundleError(f"{files.MANIFEST}: {name} is {manifest[name]!r}, which is no {kind.__name__}")
    return manifest[name]


class _Contents:
    """The files of a bundle, each held to the digest in the manifest before it is read."""

    def __init__(self, folder: Path, digests: Mapping[str, str]) -> None:
        self._folder = folder
        self._digests = digests

    def content(self, name: str) -> bytes | None:
        """The content of one file; None where the bundle has none."""
        if name not in self._digests:
            return None
        try:
            content = (self._folder / name).read_bytes()
        except OSError as error:
            raise BundleError(f"{self._folder}: {name} cannot be read: {error.strerror}") from None
        if sha256(content).hexdigest() != self._digests[name]:
            raise BundleError(f"{self._folder}: {name} is not the file that was written: its sha256 differs")
        return content

    def needed(self, name: str) -> bytes:
        """The content of a file that must be there."""
        content = self.content(name)
        if content is None:
            raise BundleError(f"{self._folder}: the bundle has no {name}")
        return content

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of an npz file; what is pickled is refused."""
        try:
            with np.load(io.BytesIO(self.needed(name)), allow_pickle=False) as archive:
                return {each: archive[each] for each in archive.files}
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            if isinstance(error, BundleError):
                raise
            raise BundleError(f"{self._folder}: {name} holds no arrays: {error}") from None

    def module(self, name: str) -> tvm.IRModule:
        """A module of TVM."""
        content = self.needed(name + files.LOADED)
        try:
            module = tvm.ir.load_json(content.decode())
        except Exception as error:
            raise BundleError(
                f"{self._folder}: TVM cannot read {name}{files.LOADED}: {_first_line(error)}"
            ) from None
        if not isinstance(module, tvm.IRModule):
            raise BundleError(
                f"{self._folder}: {name}{files.LOADED} holds a {type(module).__name__}, no IRModule"
            )
        return module

    def artifact(self, target: str) -> Artifact | None:
        """The artefact; None where the run did not come so far."""
        content = self.content(files.ARTIFACT)
        if content is None:
            return None
        try:
            artifact = Artifact.from_bytes(content)
        except ArtifactError as error:
            raise BundleError(f"{self._folder}: {files.ARTIFACT}: {error}") from None
        if artifact.target != target:
            raise BundleError(
                f"{self._folder}: {files.ARTIFACT} is for {artifact.target}, the bundle for {target}"
            )
        return artifact


def _read_graph(trace: Trace, contents: _Contents) -> None:
    trace.mod = contents.module(files.BEFORE)
    content = contents.content(files.TRANSFORMED)
    if content is None:
        return
    try:
        trace.transformed = transformation.decode(json.loads(content), contents.module(files.AFTER))
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise BundleError(f"{files.TRANSFORMED} is not what was written: {error}") from None


def _read_kernel(trace: Trace, manifest: Mapping[str, Any], contents: _Contents) -> None:
    if contents.content(files.KERNEL + files.LOADED):
        trace.kernel = contents.module(files.KERNEL)
    if contents.content(files.EXPECTED):
        trace.expected = contents.arrays(files.EXPECTED)["expected"]
    trace.instruction = manifest.get("instruction")
    try:
        trace.tensors = tuple(
            TensorSpec(each["name"], tuple(each["shape"]), each["dtype"])
            for each in _entry(manifest, "tensors", list)
        )
    except (KeyError, TypeError) as error:
        raise BundleError(f"{files.MANIFEST}: tensors: {error}") from None


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
