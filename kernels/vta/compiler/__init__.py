"""The compiler from scheduled TensorIR to VTA programs."""

from kernels.vta.compiler.compile import VIRTUAL_THREADS, compile_program
from kernels.vta.compiler.statements import UncompilableError

__all__ = ["VIRTUAL_THREADS", "UncompilableError", "compile_program"]
