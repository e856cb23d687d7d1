"""What a run or a layer can be in, each with a symbol, so that nothing is said by colour alone."""

from __future__ import annotations

from dataclasses import dataclass

from bench.compare.verdict import VERDICTS, LayerVerdict, Verdict


@dataclass(frozen=True)
class State:
    """``name`` is also the name of its style; ``meaning`` explains it to a first-time reader."""

    name: str
    symbol: str
    meaning: str


_TABLE = (
    State("exact", "✓", "every tensor of the graph is equal, bit for bit, in all three evaluations"),
    State("mismatch", "✗", "a tensor differs; the page shows where, and how"),
    State("hazard", "!", "the numbers agree, but the machine found an error that a device would hide"),
    State("unsupported", "–", "the target cannot take the graph, and the run says why"),
    State("device-missing", "?", "the simulator or board is not here; the run says how to get it"),
    State("build-error", "B", "a kernel could not be built, or what was built proves nothing"),
    State("crash", "C", "the device ended without a result"),
    State("timeout", "T", "the device did not end in time"),
)
STATES = {state.name: state for state in _TABLE}
assert tuple(STATES) == VERDICTS

ON_HOST = State("unsupported", "–", "the target's instruction cannot compute the layer: it stays on the host")
NOT_REACHED = State("not reached", "·", "the run ended before the layer")
LAYER_STATES = (
    State("exact", "✓", "the result of the layer is equal, bit for bit"),
    State("mismatch", "✗", "the result differs; a box marks the layer that is the first to differ"),
    State("hazard", "!", "the machine found errors while it ran the layer's kernel"),
    ON_HOST,
    NOT_REACHED,
)
_OF_LAYER = {state.name: state for state in LAYER_STATES}


def layer_state(verdict: Verdict, layer: LayerVerdict) -> State:
    """The state of one layer of a run: the worst thing that is known of it."""
    alone = len(verdict.layers) == 1 and verdict.verdict == "hazard"
    if layer.verdict == "mismatch":
        return _OF_LAYER["mismatch"]
    if layer.errors or alone:
        return _OF_LAYER["hazard"]
    if layer.instruction is None and layer.operator != "kernel":
        return ON_HOST
    return _OF_LAYER["exact"] if layer.verdict == "exact" else NOT_REACHED
