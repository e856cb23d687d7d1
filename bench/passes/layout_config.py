"""Which layers a layout conversion leaves alone."""

from __future__ import annotations

from collections.abc import Collection
from contextvars import ContextVar, Token
from types import TracebackType

from bench.passes.layout_report import LayoutReport

_CURRENT: ContextVar[LayoutConfig | None] = ContextVar("layout_config", default=None)


class LayoutConfig:
    """A scope for `bench.passes.convert_layout`: inside it, the listed layers keep their layout.

        with LayoutConfig(skip_layers=[0]) as config:
            mod = convert_layout(mod, {"relax.nn.conv2d": ["HWNC", "default"]})
        config.report

    `skip_layers` are indices of the operators whose layout is to be converted, all of them counted (grouped
    and depthwise ones too), in the order of execution; negative ones count from the end. They are resolved
    anew at every conversion, which raises LayerIndexError for one out of range. Scopes nest, the inner one
    counts alone; a scope can be entered again, inside itself too. `report` is what the last conversion
    inside the scope did with each layer.
    """

    def __init__(self, skip_layers: Collection[int] | None = None) -> None:
        self.skip_layers = tuple(skip_layers or ())
        self.report: tuple[LayoutReport, ...] = ()
        self._tokens: list[Token[LayoutConfig | None]] = []

    @staticmethod
    def current() -> LayoutConfig | None:
        """The innermost scope that is open in this thread, or None."""
        return _CURRENT.get()

    def __enter__(self) -> LayoutConfig:
        self._tokens.append(_CURRENT.set(self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _CURRENT.reset(self._tokens.pop())
