"""Ways to plant a fault in a running bench: other source text for a function, or something around it."""

from __future__ import annotations
import __future__

import ast
import importlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from bench.audit.fault import AuditFault, Plant
from kernels.faults import FaultNotPlanted


def other_text(function: str, old: str, new: str) -> Plant:
    """Let a function be compiled from its source with ``new`` in place of ``old``, which stands there once.

    ``function`` is ``module:name`` or ``module:Class.name``. The function object stays the same one, so all
    that refer to it have the fault.
    """

    @contextmanager
    def planted() -> Iterator[None]:
        target = _function(function)
        source = textwrap.dedent(inspect.getsource(target))
        if source.count(old) != 1:
            raise FaultNotPlanted(f"{old!r} stands {source.count(old)} times in {function}, not once")
        changed = _compiled(target, source.replace(old, new))
        before = target.__code__
        if changed.co_code == before.co_code and changed.co_consts == before.co_consts:
            raise FaultNotPlanted(f"{new!r} instead of {old!r} makes no difference in {function}")
        target.__code__ = changed
        try:
            yield
        finally:
            target.__code__ = before

    return planted


def text_fault(
    subject: str, name: str, what: str, check: str, *, function: str, old: str, new: str
) -> AuditFault:
    """Make a fault of :func:`other_text`."""
    return AuditFault(name, subject, what, check, other_text(function, old, new))


def around(name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Plant:
    """Let ``module:name`` or ``module:Class.name`` be what ``wrap`` makes of it."""

    @contextmanager
    def planted() -> Iterator[None]:
        owner, attribute = _owner(name)
        before = inspect.getattr_static(owner, attribute)
        setattr(owner, attribute, wrap(getattr(owner, attribute)))
        try:
            yield
        finally:
            setattr(owner, attribute, before)

    return planted


def _owner(name: str) -> tuple[Any, str]:
    """The module or class that has what ``module:Class.name`` names, and its name there."""
    module, _, path = name.partition(":")
    try:
        owner: Any = importlib.import_module(module)
        *classes, attribute = path.split(".")
        for each in classes:
            owner = getattr(owner, each)
        getattr(owner, attribute)
    except (ImportError, AttributeError) as error:
        raise FaultNotPlanted(f"there is no {name}: {error}") from None
    return owner, attribute


def _function(name: str) -> FunctionType:
    owner, attribute = _owner(name)
    found = inspect.getattr_static(owner, attribute)
    found = getattr(found, "__func__", None) or getattr(found, "fget", None) or found
    found = inspect.unwrap(found)
    if not isinstance(found, FunctionType) or found.__closure__:
        raise FaultNotPlanted(f"{name} is no plain function")
    return found


def _compiled(function: FunctionType, source: str) -> Any:
    tree = ast.parse(source)
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    flags = __future__.annotations.compiler_flag
    code = compile(tree, f"<fault in {function.__qualname__}>", "exec", flags=flags, dont_inherit=True)
    names: dict[str, Any] = {}
    exec(code, function.__globals__, names)
    return names[definition.name].__code__
