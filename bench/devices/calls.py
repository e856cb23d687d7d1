"""How the calls of one graph are told apart: layers that are alike share one kernel."""

from __future__ import annotations


def call_name(kernel: str, number: int) -> str:
    """The name of the so-manieth call (from 1) of a kernel in one run."""
    return kernel if number == 1 else f"{kernel}#{number}"
