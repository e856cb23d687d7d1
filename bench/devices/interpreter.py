"""How a process for a device is started: this Python, this bitexact, whatever the current folder holds."""

from __future__ import annotations

import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]
# Behind everything else: where bitexact is installed its folder is that of all other packages.
_START = (
    "import runpy, sys; sys.path.append(sys.argv.pop(1)); module = sys.argv.pop(1); "
    "runpy.run_module(module, run_name='__main__', alter_sys=True)"
)


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of bitexact.

    ``python -m`` would look into the current folder first, where a user may have a package of the name
    ``kernels``, and would not find a bitexact that only the parent's ``sys.path`` knows.
    """
    return [sys.executable, "-P", "-c", _START, str(_ROOT), module, *arguments]
