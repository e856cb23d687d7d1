"""VTA: configuration, instruction set, instruction models, the machine, and the file of a program."""

from simulators.vta import isa, models, profiles
from simulators.vta.backends import Backends, compare
from simulators.vta.config import Config
from simulators.vta.explain import explain
from simulators.vta.machine import Machine
from simulators.vta.program import Buffer, Program, load

__all__ = [
    "Backends",
    "Buffer",
    "Config",
    "Machine",
    "Program",
    "compare",
    "explain",
    "isa",
    "load",
    "models",
    "profiles",
]
