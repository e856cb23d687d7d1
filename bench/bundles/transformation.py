"""What a target's passes made of a graph, as JSON beside the graph itself, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import tvm

from bench.flows.transformed import Correspondence, Layer, Transformed


def encode(transformed: Transformed) -> dict[str, Any]:
    """Everything but the graph."""
    return {
        "target": transformed.target,
        "report": [asdict(layer) for layer in transformed.report],
        "correspondences": [asdict(entry) for entry in transformed.correspondences],
        "operators": list(transformed.operators),
        "on_host": dict(transformed.on_host),
    }


def decode(content: dict[str, Any], mod: tvm.IRModule) -> Transformed:
    """The transformation of graph ``mod``; KeyError and TypeError name what is missing or not known."""
    return Transformed(
        target=content["target"],
        mod=mod,
        report=tuple(Layer(**layer) for layer in content["report"]),
        correspondences=tuple(
            Correspondence(**{**entry, "shape": tuple(entry["shape"])})
            for entry in content["correspondences"]
        ),
        operators=tuple(content["operators"]),
        on_host=content["on_host"],
    )
