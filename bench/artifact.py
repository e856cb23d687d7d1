"""The artefact: all that a device needs to run a compiled graph, in one file."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1
MANIFEST = "manifest.json"
HOST_LIBRARY = "host.so"
MACHINE_FOLDER = "machine/"


class ArtifactError(ValueError):
    """A file is no artefact of this format, or is damaged."""


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape and dtype of one tensor that enters or leaves the compiled graph."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Artifact:
    """A compiled graph: host library, the machine's code, and what goes in and comes out.

    ``host_library`` is the Relax VM executable and the host's operators as an ELF shared object.
    ``machine`` holds the accelerator's code by file name (PTX, a Hexagon ELF, VTA programs); it is empty
    where the kernels were lowered to plain code inside the host library (device ``host``).
    ``kernels`` names the machine's kernels in the order in which the graph calls them.
    """

    target: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    kernels: tuple[str, ...]
    host_library: bytes
    machine: dict[str, bytes] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The artefact as the bytes of one zip file."""
        manifest = {
            "format": FORMAT,
            "target": self.target,
            "inputs": [asdict(spec) for spec in self.inputs],
            "outputs": [asdict(spec) for spec in self.outputs],
            "kernels": list(self.kernels),
        }
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(MANIFEST, json.dumps(manifest, indent=1))
            archive.writestr(HOST_LIBRARY, self.host_library)
            for name, content in self.machine.items():
                archive.writestr(MACHINE_FOLDER + name, content)
        return buffer.getvalue()

    @staticmethod
    def from_bytes(content: bytes) -> Artifact:
        """Read what :meth:`to_bytes` wrote; ArtifactError says what is wrong with anything else."""
        try:
            archive = zipfile.ZipFile(io.BytesIO(content))
            members = {name: archive.read(name) for name in archive.namelist()}
        except zipfile.BadZipFile as error:
            raise ArtifactError(f"not an artefact: {error}") from None
        missing = {MANIFEST, HOST_LIBRARY} - members.keys()
        if missing:
            raise ArtifactError(f"not an artefact: it lacks {', '.join(sorted(missing))}")
        try:
            manifest = json.loads(members[MANIFEST])
        except ValueError as error:
            raise ArtifactError(f"not an artefact: {MANIFEST}: {error}") from None
        if manifest.get("format") != FORMAT:
            raise ArtifactError(f"artefact format {manifest.get('format')} is not supported: {FORMAT} is")
        machine = {
            name.removeprefix(MACHINE_FOLDER): data
            for name, data in members.items()
            if name.startswith(MACHINE_FOLDER)
        }
        try:
            return Artifact(
                target=manifest["target"],
                inputs=tuple(map(_spec, manifest["inputs"])),
                outputs=tuple(map(_spec, manifest["outputs"])),
                kernels=tuple(manifest["kernels"]),
                host_library=members[HOST_LIBRARY],
                machine=machine,
            )
        except KeyError as error:
            raise ArtifactError(f"not an artefact: {MANIFEST} lacks {error}") from None

    @staticmethod
    def load(path: Path) -> Artifact:
        """Read an artefact from a file."""
        return Artifact.from_bytes(path.read_bytes())


def _spec(entry: dict[str, Any]) -> TensorSpec:
    return TensorSpec(entry["name"], tuple(entry["shape"]), entry["dtype"])
