"""The table of operators that are quantised, by family of operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tvm import relax
from tvm.ir import Call

if TYPE_CHECKING:
    from bench.passes.quantization.translation import Translation
    from bench.passes.quantization.value import Value

Translator = Callable[["Translation", relax.Var, Call], "Value"]
"""Emits the integer form of one binding of the float graph, a call of an operator."""

TRANSLATORS: dict[str, Translator] = {}


def translates(*operators: str) -> Callable[[Translator], Translator]:
    """Enter the decorated function into the table, under the operators that it translates."""

    def enter(translator: Translator) -> Translator:
        TRANSLATORS.update(dict.fromkeys(operators, translator))
        return translator

    return enter
