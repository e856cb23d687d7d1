"""VTA: configuration, instruction set, instruction models, the machine, and the file of a program."""

from simulators.vta import isa, models
from simulators.vta.config import Config
from simulators.vta.machine import Machine
from simulators.vta.program import Buffer, Program, load

__all__ = ["Buffer", "Config", "Machine", "Program", "isa", "load", "models"]
