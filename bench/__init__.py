"""bitexact: what a user touches - passes, flows, devices, comparison and the command line.

``transform`` runs a target's passes on an integer graph, ``run`` takes a graph all the way to a verdict, and
``verify`` holds a single kernel of the user's own to a reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.pipeline import run, transform
    from bench.verification.verify import verify

__all__ = ["run", "transform", "verify"]


def __getattr__(name: str) -> Any:
    # TVM takes most of a second to import; `bitexact list` and `import bench.layout` need none of it.
    if name in __all__:
        from bench.pipeline import run, transform
        from bench.verification.verify import verify

        return {"run": run, "transform": transform, "verify": verify}[name]
    raise AttributeError(f"module 'bench' has no attribute {name!r}")
