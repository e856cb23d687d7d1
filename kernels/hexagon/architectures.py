"""Versions of Hexagon: which there are, which the C compiler builds for, and which a simulator runs."""

from functools import cache

from kernels.hexagon.object_cache import kept_or_built
from kernels.hexagon.toolchain import ToolchainError, compile_c, link

ARCHITECTURES = (66, 67, 68, 69, 71, 73, 75)  # HVX of 128 bytes, as TVM's LLVM and the C compiler know them


def check_architecture(architecture: int) -> None:
    """Raise ValueError, with those there are, for an architecture that is none of them."""
    if architecture not in ARCHITECTURES:
        valid = ", ".join(f"v{number}" for number in ARCHITECTURES)
        raise ValueError(f"unknown Hexagon architecture v{architecture}; there are {valid}")


@cache
def built_architectures() -> tuple[int, ...]:
    """Give those of ARCHITECTURES that the C compiler in use knows: clang 14 ends at v69."""
    return tuple(number for number in ARCHITECTURES if _compiles(number))


def _compiles(architecture: int) -> bool:
    try:
        compile_c("", architecture=architecture)
    except ToolchainError:
        return False
    return True


@cache
def probe_elf(architecture: int) -> bytes:
    """Build a tiny ELF that executes an HVX instruction and exits with status `architecture`.

    With it a simulator's support is found out by running (`simulators.hvx.qemu.newest_architecture`).
    """
    check_architecture(architecture)
    source = """
    void _start(void) {
      __asm__ volatile("{ v0 = vsplat(r0) }\\n{ v1.w = vadd(v0.w, v0.w) }\\n"
                       "{ r0 = #STATUS\\n r6 = #94 }\\n trap0(#1)");
      for (;;) {}
    }
    """
    compiled = compile_c(source.replace("STATUS", str(architecture)), architecture=architecture)
    return kept_or_built(["linked", compiled.hex()], lambda: link([compiled]))
