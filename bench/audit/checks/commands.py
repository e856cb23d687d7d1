"""Checks of what the command line says: exit status, tables and the JSON of a run that fails."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from functools import partial
from pathlib import Path

from bench.audit.checks.check import Check
from bench.audit.checks.runs import digits

FAULT = "vta-shift-by-one"


def _bitexact(*arguments: str) -> tuple[int, str]:
    """Exit status and standard output of a command, in this process."""
    from bench.cli import main

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        try:
            status = main(list(arguments))
        except SystemExit as end:
            status = int(end.code or 0)
        except Exception:  # what Python does with it
            status = 1
    return status, printed.getvalue()


def _status() -> str | None:
    """0 where all is exact, 1 where it is not, 2 for a usage error."""
    for meant, arguments in (
        (0, ("run", "digits", "--batch", "8", "--target", "vta")),
        (1, ("run", "digits", "--batch", "8", "--inject", FAULT)),
        (2, ("run", "digits", "--target", "gpu")),
        (2, ("run", "digits", "--target", "hexagon", "--inject", FAULT)),
    ):
        status, _ = _bitexact(*arguments)
        if status != meant:
            return f"bitexact {' '.join(arguments)} exits with {status} instead of {meant}"
    return None


def _report() -> str | None:
    """The table and the JSON of a run with a fault both say mismatch, and where."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "run.json")
        _, printed = _bitexact("run", "digits", "--batch", "8", "--inject", FAULT, "--json", str(file))
        (verdict,) = json.loads(file.read_text())["verdicts"]
    mismatch = verdict["mismatch"]
    if verdict["verdict"] != "mismatch" or mismatch is None:
        return f"the JSON says {verdict['verdict']}, and of the mismatch {mismatch}"
    for text in ("mismatch between", f"device {mismatch['device']}, reference {mismatch['reference']}"):
        if text not in printed:
            return f"the printed report does not say {text!r}"
    layers = {layer["name"]: layer["verdict"] for layer in verdict["layers"]}
    if mismatch["layer"] and layers.get(mismatch["layer"]) != "mismatch":
        return f"the layer {mismatch['layer']} of the mismatch is {layers.get(mismatch['layer'])}"
    return None


COMMAND_CHECKS = [
    Check(
        "exit-status",
        "of runs that are exact, are not, or are asked wrongly",
        _status,
        prepare=partial(digits, 8),
    ),
    Check("report", "table and JSON of a run that fails", _report, prepare=partial(digits, 8)),
]
