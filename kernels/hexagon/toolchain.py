"""The C compiler and linker for Hexagon: ziglang from pip, or clang and lld where those are present."""

import importlib.metadata
import importlib.util
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from kernels.hexagon.object_cache import kept_or_built

RUNTIME = Path(__file__).parent / "runtime"
INSTALL = "python -m pip install ziglang (or apt-get install clang lld)"

# -g0: debug information names the temporary folder of the source, so that no two builds were the same.
# -fno-builtin: the server brings its own memset and memcpy, which must not become calls of themselves.
_C_FLAGS = (
    *("-std=gnu11", "-O2", "-g0", "-Wall", "-Wextra", "-Werror"),
    *("-ffreestanding", "-fno-builtin", "-fno-stack-protector", "-fno-sanitize=all", "-fno-pic", "-G0"),
)


class ToolchainError(RuntimeError):
    """The compiler or linker is missing or refused its input; the message holds what it said."""


@cache
def _tools() -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Identity, compiler and linker commands of the tool chain in use."""
    if importlib.util.find_spec("ziglang"):
        zig = (sys.executable, "-m", "ziglang")
        identity = f"ziglang {importlib.metadata.version('ziglang')}"
        return identity, (*zig, "cc", "-target", "hexagon-linux-musl"), (*zig, "ld.lld")
    clang, linker = shutil.which("clang"), shutil.which("ld.lld")
    if clang and linker:
        version = subprocess.run([clang, "--version"], capture_output=True, text=True, check=True).stdout
        return version, (clang, "-target", "hexagon-unknown-elf"), (linker,)
    raise ToolchainError(f"no C compiler for Hexagon found: {INSTALL}")


def available() -> str | None:
    """Why there is no tool chain, with the command that installs one; None where there is."""
    try:
        _tools()
    except ToolchainError as error:
        return str(error)
    return None


def _architecture_flags(architecture: int) -> tuple[str, ...]:
    if _tools()[0].startswith("ziglang"):
        return (f"-mcpu=hexagonv{architecture}+hvxv{architecture}+hvx_length128b",)
    return (f"-mcpu=hexagonv{architecture}", f"-mhvx=v{architecture}", "-mhvx-length=128B")


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise ToolchainError(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr[-4000:]}")


def compile_c(source: str, *, architecture: int = 67) -> bytes:
    """Compile freestanding C (it may include "server.h") to a Hexagon object with HVX of 128 bytes.

    Objects are kept (`kernels.hexagon.object_cache`) under the source, the header, the flags and the
    compiler. Raises ToolchainError with the compiler's messages.
    """
    identity, compiler, _ = _tools()
    flags = (*_architecture_flags(architecture), *_C_FLAGS)

    def build() -> bytes:
        with tempfile.TemporaryDirectory(prefix="bitexact-") as directory:
            c_file, object_file = Path(directory) / "source.c", Path(directory) / "source.o"
            c_file.write_text(source)
            _run([*compiler, *flags, f"-I{RUNTIME}", "-c", str(c_file), "-o", str(object_file)])
            return object_file.read_bytes()

    header = (RUNTIME / "server.h").read_text()
    return kept_or_built([identity, *compiler[-2:], *flags, header, source], build)


def compile_c_for_host(source: str) -> bytes:
    """Compile freestanding C to a relocatable object for this machine's CPU, of any model.

    Objects are kept as those of `compile_c` are. Raises ToolchainError with the compiler's messages.
    """
    identity, compiler = _host_compiler()
    flags = (
        "-std=gnu11",
        "-O2",
        "-g0",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-ffreestanding",
        "-fno-sanitize=all",
        "-fPIC",
    )

    def build() -> bytes:
        with tempfile.TemporaryDirectory(prefix="bitexact-") as directory:
            c_file, object_file = Path(directory) / "source.c", Path(directory) / "source.o"
            c_file.write_text(source)
            _run([*compiler, *flags, "-c", str(c_file), "-o", str(object_file)])
            return object_file.read_bytes()

    return kept_or_built([identity, platform.machine(), *compiler[-2:], *flags, source], build)


def _host_compiler() -> tuple[str, tuple[str, ...]]:
    """Identity and command of the compiler for this machine, of the tool chain in use."""
    identity, compiler, _ = _tools()
    if identity.startswith("ziglang"):
        return identity, (*compiler[: compiler.index("cc") + 1], "-mcpu=baseline")
    return identity, compiler[:1]


def link(objects: Sequence[bytes]) -> bytes:
    """Link objects to a static executable that starts at `_start`, without debug information.

    The same objects give the same bytes, wherever they are linked. Raises ToolchainError.
    """
    options = ("-static", "-e", "_start", "--gc-sections", "--strip-debug")
    with tempfile.TemporaryDirectory(prefix="bitexact-") as directory:
        names = []
        for index, content in enumerate(objects):
            path = Path(directory) / f"{index}.o"
            path.write_bytes(content)
            names.append(str(path))
        linked = Path(directory) / "linked.elf"
        _run([*_tools()[2], *options, *names, "-o", str(linked)])
        return linked.read_bytes()
