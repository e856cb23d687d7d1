"""Names of Relax operators as options of passes give them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import tvm

# What Relay called otherwise: not accepted, but the error says what it is called now.
_RELAY = {
    "concatenate": "relax.concat",
    "nn.batch_matmul": "relax.matmul",
    "nn.bias_add": "relax.add",
    "nn.dense": "relax.matmul",
}


def operator_names(names: Iterable[str]) -> frozenset[str]:
    """Full names of operators given as `relax.nn.conv2d` or `nn.conv2d`.

    ValueError names every one that is not registered, with what it may have been meant to be; TypeError where
    one string is given instead of several.
    """
    if isinstance(names, str):
        raise TypeError(f"operators are given as a list of names, not as the string {names!r}")
    known = frozenset(tvm.ir.Op.list_op_names())
    found: list[str] = []
    unknown: list[str] = []
    for name in names:
        full = next((candidate for candidate in (name, f"relax.{name}") if candidate in known), None)
        if full:
            found.append(full)
        else:
            unknown.append(repr(name) + _meant(name, known))
    if unknown:
        raise ValueError(f"no operator is registered as {', '.join(unknown)}")
    return frozenset(found)


def _meant(name: str, known: frozenset[str]) -> str:
    stem = name.removeprefix("relax.").removeprefix("relay.")
    if stem in _RELAY:
        return f" ({_RELAY[stem]} in Relax)"
    ours = [candidate for candidate in known if candidate.startswith(("relax.", "bitexact."))]
    close = difflib.get_close_matches(f"relax.{stem}", sorted(ours), n=1)
    return f" (perhaps {close[0]})" if close else ""
