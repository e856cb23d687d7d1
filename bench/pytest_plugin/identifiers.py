"""Identifiers that spell a case: ``hexagon-conv2d-u8i8-1x64x56x56-256x64x3x3-s1p1``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import SupportsIndex

_WORD = re.compile(r"[A-Za-z0-9_.]+")
_DTYPE = re.compile(r"(uint|int|float|bfloat)(\d+)")
_LETTERS = {"uint": "u", "int": "i", "float": "f", "bfloat": "bf"}

Extents = SupportsIndex | Sequence[SupportsIndex]


def case_id(
    target: str,
    operator: str,
    *,
    dtypes: Iterable[object] = (),
    shapes: Iterable[Extents] = (),
    strides: Extents | None = None,
    padding: Extents | None = None,
    dilation: Extents = 1,
    groups: int = 1,
    **more: object,
) -> str:
    """Spell a case, for the ``ids`` of a table of tests; the same case has the same identifier everywhere.

    ``dtypes`` (names, or NumPy's types) and ``shapes`` are those of the operands, data first. ``strides`` and
    ``padding`` appear where they are given, ``dilation`` and ``groups`` where they are not 1; extents that
    are all alike are written once. ``more`` is appended by name and value, in the order given; what is None
    or False is left out. Raises ValueError for anything that a name cannot be made of.
    """
    parts = [_word("target", target), _word("operator", operator)]
    if types := "".join(map(_letters, dtypes)):
        parts.append(types)
    parts += ["x".join(map(str, _whole("shape", shape))) for shape in shapes]
    window = "".join(
        letter + _extents(name, extents)
        for letter, name, extents in (
            ("s", "strides", strides),
            ("p", "padding", padding),
            ("d", "dilation", None if _extents("dilation", dilation) == "1" else dilation),
            ("g", "groups", None if groups == 1 else groups),
        )
        if extents is not None
    )
    if window:
        parts.append(window)
    parts += [_named(name, value) for name, value in more.items() if value is not None and value is not False]
    return "-".join(parts)


def _word(what: str, value: object) -> str:
    text = str(value)
    if not _WORD.fullmatch(text):
        raise ValueError(f"{what} {text!r} cannot be part of an identifier: letters, digits, _ and . can")
    return text


def _letters(dtype: object) -> str:
    name = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", str(dtype))
    if name == "bool":
        return "b1"
    found = _DTYPE.fullmatch(name)
    if not found:
        raise ValueError(f"unknown dtype {name!r}: int, uint, float or bfloat with a number of bits, or bool")
    return _LETTERS[found[1]] + found[2]


def _whole(what: str, extents: Extents) -> list[int]:
    sequence = extents if isinstance(extents, Sequence) else [extents]
    try:
        listed = [each.__index__() for each in sequence]
    except AttributeError:
        listed = []
    if not listed or min(listed) < 0:
        raise ValueError(f"{what} {extents!r} is no whole number from 0, and no sequence of some")
    return listed


def _extents(what: str, extents: Extents) -> str:
    """Numbers with x between them; once where all are alike."""
    numbers = _whole(what, extents)
    return str(numbers[0]) if len(set(numbers)) == 1 else "x".join(map(str, numbers))


def _named(name: str, value: object) -> str:
    if value is True:
        return name
    if isinstance(value, tuple | list):
        return name + "x".join(_word(name, each) for each in value)
    return name + _word(name, value)
