"""The text in a bundle that says what it is and how to replay it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bench.bundles import files

_FILES = {
    files.MANIFEST: "target, device, options, seed, versions, the verdict",
    files.INPUTS: "the inputs (NumPy)",
    files.BEFORE + files.SHOWN: "the integer graph, to read",
    files.BEFORE + files.LOADED: "the same, for tvm.ir.load_json",
    files.AFTER + files.SHOWN: "the graph after the target's passes, to read",
    files.AFTER + files.LOADED: "the same, for tvm.ir.load_json",
    files.TRANSFORMED: "which tensor of the one graph is which of the other, and each layer",
    files.KERNEL + files.SHOWN: "the scheduled kernel, to read",
    files.KERNEL + files.LOADED: "the same, for tvm.ir.load_json",
    files.EXPECTED: "what the reference gave",
    files.ARTIFACT: "what was executed: machine code, and the host's library",
}


def readme(manifest: Mapping[str, Any], portable: Callable[[str], str]) -> str:
    """The text for a manifest."""
    verdict = manifest["verdict"]
    planted = f", with the planted fault {manifest['fault']}" if manifest["fault"] else ""
    seed = "" if manifest["seed"] is None else f", seed {manifest['seed']}"
    lines = [
        f"A failing case of bitexact: {manifest['workload'] or 'a graph'} on {manifest['target']}, device "
        f"{manifest['device']}{seed}{planted}.",
        "",
        f"Verdict: {verdict['verdict']}",
    ]
    if verdict["reason"]:
        lines.append(portable(f"Reason: {verdict['reason']}"))
    if mismatch := verdict["mismatch"]:
        coordinate = ", ".join(f"{axis.lower()}={at}" for axis, at in mismatch["coordinate"].items())
        lines.append(
            f"First difference: {mismatch['binding']} ({mismatch['operator']}) at {coordinate}: "
            f"{mismatch['device']} where {mismatch['reference']} is right; "
            f"{mismatch['differing']} of {mismatch['elements']} elements differ."
        )
    lines += [f"Finding: {finding['kind']}: {finding['message']}" for finding in verdict["findings"][:5]]
    lines += [
        "",
        "To replay it, with bitexact installed, from within this directory:",
        "",
        "    bitexact replay .",
        "    bitexact replay . --rebuild     # compile again from the integer graph",
        "    bitexact replay . --minimise    # look for a smaller case that fails the same way",
        "",
        "Replay executes the artefact's machine code, the host's part of it on this CPU: replay only what",
        "you trust. Reading a bundle executes nothing.",
        "",
        "Files:",
        *(
            f"    {name:20} {what}"
            for name, what in _FILES.items()
            if name in (*manifest["files"], files.MANIFEST)
        ),
        "",
        "Versions:",
        *(f"    {name:20} {version}" for name, version in manifest["versions"].items() if version),
    ]
    return "\n".join(lines) + "\n"
