"""Which instructions no machine may execute, and why: judged before anything of a stream is executed."""

from simulators.vta.alu import opcodes
from simulators.vta.config import Config
from simulators.vta.isa import Alu, Gemm, Illegal, Instruction, Load, Memory, Store
from simulators.vta.memory import COUNTERS
from simulators.vta.order import engine_of, names_no_engine
from simulators.vta.profiles import Profile


def why_illegal(instruction: Instruction, config: Config, profile: Profile) -> str | None:
    """Say what makes an instruction one that must not be executed, or None. Needs no machine state."""
    if isinstance(instruction, Illegal):
        return f"no instruction has opcode {instruction.opcode}"
    if names_no_engine(instruction):
        return f"a dependency flag names a neighbour that the {engine_of(instruction)} engine has not"
    if isinstance(instruction, Load | Store) and instruction.x_size:
        return _why_illegal_transfer(instruction, config)
    if isinstance(instruction, Gemm | Alu) and instruction.uop_end < instruction.uop_bgn:
        return f"uop_end {instruction.uop_end} lies before uop_bgn {instruction.uop_bgn}"
    if isinstance(instruction, Alu) and instruction.alu_opcode not in opcodes(profile):
        return f"no ALU operation has opcode {instruction.alu_opcode}"
    return None


def _why_illegal_transfer(instruction: Load | Store, config: Config) -> str | None:
    """Do the part of `why_illegal` for a LOAD or STORE that moves something; one that does not is a NOP."""
    kind, name = instruction.memory_type, type(instruction).__name__.upper()
    if kind not in COUNTERS:
        return f"{name} with memory {kind}, which does not exist"
    if isinstance(instruction, Load):
        if kind == Memory.ACC_8BIT and (config.inp_width, config.acc_width) != (8, 32):
            return "LOAD ACC_8BIT, which is from 8 to 32 bits, where INP or ACC have other widths"
        return "LOAD to OUT, which is only stored" if kind == Memory.OUT else None
    if kind != Memory.OUT:
        return f"STORE from {Memory(kind).name}, and only OUT is stored"
    if any((instruction.y_pad_0, instruction.y_pad_1, instruction.x_pad_0, instruction.x_pad_1)):
        return "STORE with padding"
    return None
