"""What a layout conversion did with one layer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayoutReport:
    """One layer of a conversion, in the order of execution.

    `index` is that of `LayoutConfig.skip_layers`, `name` the binding of the layer. `why_kept` says why the
    layer kept the layouts it had, and is None where it has the new ones.
    """

    index: int
    name: str
    data_layout: str
    kernel_layout: str
    why_kept: str | None

    def __str__(self) -> str:
        layouts = f"{self.data_layout} {self.kernel_layout}"
        why = f" kept: {self.why_kept}" if self.why_kept else ""
        return f"layer {self.index} {self.name}: {layouts}{why}"
