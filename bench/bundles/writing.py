"""Writing a bundle: whole or not at all."""

from __future__ import annotations

import io
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from bench.bundles import files, options, transformation
from bench.bundles.readme import readme
from bench.compare.verdict import Verdict
from bench.trace import Trace
from bench.versions import versions

FAILURES = ("mismatch", "hazard", "build-error", "crash", "timeout")
"""The verdicts that are worth a bundle: unsupported and device-missing say all there is to say."""

_LONGEST_NAME = 80
_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[\w.+~@-]+/)+")


def is_failure(verdict: Verdict) -> bool:
    """Whether there is something to reproduce."""
    return verdict.verdict in FAILURES


def keep(
    directory: Path | str | None,
    verdict: Verdict,
    trace: Trace,
    *,
    seed: int | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Path | None:
    """Write a bundle where the verdict is a failure and there is a directory for it, and say so in it."""
    if directory is None or not is_failure(verdict):
        return None
    path = write(directory, verdict, trace, seed=seed, notes=notes)
    verdict.bundle = str(path)
    return path


def write(
    directory: Path | str,
    verdict: Verdict,
    trace: Trace,
    *,
    seed: int | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Path:
    """Write one failing case as a new directory within ``directory``, and return its path.

    ``trace`` is what :func:`bench.pipeline.run` or :func:`bench.verification.verify.verify` filled in.
    ``seed`` is the one that the inputs were drawn from; ``notes`` are plain values for people. The directory
    is named after the case, with a number where there is one of that name. Nothing in it names a place on
    this machine. Raises OSError where it cannot be written, and then leaves nothing behind.
    """
    contents = _contents(trace)
    manifest = {
        "format": files.FORMAT,
        "kind": "graph" if trace.mod is not None else "kernel",
        "workload": _portable(verdict.workload),
        "target": verdict.target,
        "device": verdict.device,
        "options": options.encode(trace.options),
        "profile": trace.profile,
        "fault": verdict.fault,
        "seed": seed,
        "notes": dict(notes or {}),
        "instruction": trace.instruction,
        "tensors": [asdict(spec) for spec in trace.tensors],
        "versions": versions(),
        "verdict": _portable(verdict.to_json()),
        "files": {name: sha256(content).hexdigest() for name, content in contents.items()},
    }
    contents[files.MANIFEST] = (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode()
    contents[files.README] = readme(manifest, _portable).encode()
    Path(directory).mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=directory))
    try:
        unfinished.chmod(0o755)
        for name, content in contents.items():
            (unfinished / name).write_bytes(content)
        return _named(unfinished, Path(directory), _name(verdict))
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _contents(trace: Trace) -> dict[str, bytes]:
    """The files by their names, but for the manifest."""
    contents = {files.INPUTS: _npz(trace.inputs)}
    if trace.mod is not None:
        contents |= _module(files.BEFORE, trace.mod)
    if trace.transformed:
        contents |= _module(files.AFTER, trace.transformed.mod)
        text = json.dumps(transformation.encode(trace.transformed), indent=1, ensure_ascii=False)
        contents[files.TRANSFORMED] = text.encode()
    if trace.kernel is not None:
        contents |= _module(files.KERNEL, trace.kernel)
    if trace.expected is not None:
        contents[files.EXPECTED] = _npz({"expected": trace.expected})
    if trace.artifact:
        contents[files.ARTIFACT] = trace.artifact.to_bytes()
    return contents


def _module(name: str, module: tvm.IRModule) -> dict[str, bytes]:
    return {
        name + files.LOADED: tvm.ir.save_json(module).encode(),
        name + files.SHOWN: (module.script(show_meta=False) + "\n").encode(),
    }


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise ValueError(f"tensor {name} is {array.dtype}, which a bundle cannot hold")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _name(verdict: Verdict) -> str:
    words = [Path(verdict.workload).name or "case", verdict.target, verdict.device]
    if verdict.fault:
        words.append(verdict.fault)
    words.append(verdict.verdict)
    return re.sub(r"[^\w.+-]+", "-", "-".join(words)).strip("-.")[:_LONGEST_NAME]


def _named(unfinished: Path, directory: Path, name: str) -> Path:
    """Give a finished directory the first name that is free; two writers never share one."""
    number = 1
    while True:
        path = directory / (name if number == 1 else f"{name}-{number}")
        if not path.exists():
            try:
                return unfinished.rename(path)
            except OSError:
                if not path.exists():
                    raise
        number += 1


def _portable(value: Any) -> Any:
    """Plain values with every path in a text shortened to its last part."""
    if isinstance(value, str):
        return _FOLDERS.sub("", value)
    if isinstance(value, Mapping):
        return {key: _portable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_portable(each) for each in value]
    return value
