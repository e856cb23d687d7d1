"""An artefact is one file that can be stored and read again; anything else is refused."""

import io
import zipfile

import pytest

from bench.artifact import Artifact, ArtifactError, TensorSpec

ARTIFACT = Artifact(
    target="vta",
    inputs=(TensorSpec("data", (1, 2), "int8"),),
    outputs=(TensorSpec("conv1", (1, 2), "int32"), TensorSpec("scalar", (), "int32")),
    kernels=("conv1_kernel",),
    host_library=b"\x7fELF",
    machine={"conv1_kernel.vta": b"\0\1\2", "launches.json": b"{}"},
)


def test_round_trip() -> None:
    assert Artifact.from_bytes(ARTIFACT.to_bytes()) == ARTIFACT


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name.replace("_", "."), content)
    return buffer.getvalue()


REFUSED = {
    "no-zip": (b"something else", "not an artefact"),
    "empty": (b"", "not an artefact"),
    "cut-short": (ARTIFACT.to_bytes()[:-30], "not an artefact"),
    "no-host-library": (archive(manifest_json=b"{}"), "it lacks host.so"),
    "no-json": (archive(manifest_json=b"{", host_so=b""), "manifest.json"),
    "other-format": (
        archive(manifest_json=b'{"format": 99}', host_so=b""),
        "format 99 is not supported: 1 is",
    ),
    "no-keys": (archive(manifest_json=b'{"format": 1}', host_so=b""), "manifest.json lacks 'target'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_is_refused(case: str) -> None:
    content, message = REFUSED[case]
    with pytest.raises(ArtifactError, match=message):
        Artifact.from_bytes(content)
