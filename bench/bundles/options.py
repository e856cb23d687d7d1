"""The options of a target as JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from simulators.vta.config import Config

NOT_KEPT = ("tuning",)
"""Options that say where something lies on one machine."""


def encode(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as plain values; what names a place on this machine is left out."""
    return {
        name: asdict(value) if isinstance(value, Config) else value
        for name, value in options.items()
        if name not in NOT_KEPT
    }


def decode(options: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`encode` had; ValueError for a configuration of VTA that is none."""
    return {name: _value(name, value) for name, value in options.items()}


def _value(name: str, value: Any) -> Any:
    if name == "config" and isinstance(value, dict):
        try:
            return Config(**value)
        except TypeError as error:
            raise ValueError(f"not a VTA configuration: {error}") from None
    return tuple(value) if isinstance(value, list) else value
