"""JSON to dataclasses, by their annotations; an error names the key it is about."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}


def typed(kind: type[T], value: Any, where: str) -> T:
    """``value``, as ``json.loads`` gives it, as a ``kind``: a dataclass whose fields may be dataclasses.

    Fields may be str, int, float, bool, lists, tuples, dicts with text as keys, dataclasses, and unions of
    them. A field with a default may be left out, and keys that ``kind`` does not know are passed over: a
    later version may have added them. ValueError says which key, beginning with ``where``, holds what it
    should not.
    """
    return _value(kind, value, where)


def _value(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _one_of(get_args(kind), value, where)
    if origin in _CONTAINERS:
        return _CONTAINERS[origin](get_args(kind), value, where)
    if is_dataclass(kind):
        return _fields(kind, value, where)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{where}: expected {_WORDS[kind]}, found {_short(value)}")
    return value


def _one_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """One of several kinds; where none fits the error is that of the first that is not null."""
    if value is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    for kind in others[1:]:
        try:
            return _value(kind, value, where)
        except ValueError:
            continue
    return _value(others[0], value, where)


def _fields(kind: Any, value: Any, where: str) -> Any:
    given = dict(_pairs(value, where))
    hints = get_type_hints(kind)
    taken = {}
    for field in fields(kind):
        if field.name in given:
            taken[field.name] = _value(hints[field.name], given[field.name], f"{where}.{field.name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{where}.{field.name}: it is missing")
    try:
        return kind(**taken)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    items = list(_items(value, where))
    if kinds[-1] is ...:
        kinds = (kinds[0],) * len(items)
    if len(items) != len(kinds):
        raise ValueError(f"{where}: expected {len(kinds)} values, found {len(items)}")
    return tuple(_value(kind, each, f"{where}[{n}]") for kind, (n, each) in zip(kinds, items, strict=True))


def _list(kinds: tuple[Any, ...], value: Any, where: str) -> list[Any]:
    return [_value(kinds[0], each, f"{where}[{number}]") for number, each in _items(value, where)]


def _dict(kinds: tuple[Any, ...], value: Any, where: str) -> dict[str, Any]:
    return {key: _value(kinds[1], each, f"{where}.{key}") for key, each in _pairs(value, where)}


_CONTAINERS: dict[Any, Callable[[tuple[Any, ...], Any, str], Any]] = {
    list: _list,
    tuple: _tuple,
    dict: _dict,
}


def _items(value: Any, where: str) -> Iterator[tuple[int, Any]]:
    if not isinstance(value, list):
        raise ValueError(f"{where}: expected a list, found {_short(value)}")
    return enumerate(value)


def _pairs(value: Any, where: str) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object, found {_short(value)}")
    return list(value.items())


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, dict) else "an object"
    return text if len(text) <= 40 else f"{text[:37]}..."
