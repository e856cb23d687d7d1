"""The tools that the bench uses: each is tried, not only looked up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from bench.versions import package_version

INSTALL = "make setup"
# Every Schedule.tensorize segfaults with this pair (docs/tvm.md).
BAD_FFI = "0.1.15"


@dataclass(frozen=True)
class Tool:
    """One tool: whether it works, what was found, and what to type if not.

    ``needed`` says whether a target depends on it.
    """

    name: str
    found: bool
    what: str
    remedy: str | None = None
    needed: bool = True


def examine() -> list[Tool]:
    """Try every tool."""
    checks: list[Callable[[], Tool]] = [examine_tvm, _nvrtc, _ziglang, _qemu, _compiled_objects, _gpu]
    return [check() for check in checks]


def examine_tvm() -> Tool:
    """TVM and its FFI: the pair that is known to be bad is refused before it is imported."""
    core, ffi = package_version("apache-tvm"), package_version("apache-tvm-ffi")
    what = f"apache-tvm {core}, apache-tvm-ffi {ffi}"
    if core is None or ffi is None:
        return Tool("TVM", False, what, INSTALL)
    if ffi.startswith(BAD_FFI):
        remedy = "pip install apache-tvm-ffi==0.1.14.post1"
        return Tool("TVM", False, f"{what}: with this pair every tensorize crashes", remedy)
    attempt = _python("import tvm; print(tvm.__version__)")
    if attempt.returncode:
        return Tool("TVM", False, f"{what}: import fails: {_last_line(attempt.stderr)}", INSTALL)
    return Tool("TVM", True, what)


def _nvrtc() -> Tool:
    from kernels.tensorcore.nvrtc import nvrtc_available

    reason = nvrtc_available()
    if reason:
        return Tool("NVRTC", False, reason, INSTALL)
    return Tool("NVRTC", True, f"nvidia-cuda-nvrtc {package_version('nvidia-cuda-nvrtc')}: CUDA C++ to PTX")


def _ziglang() -> Tool:
    version = package_version("ziglang")
    if version is None:
        return Tool("ziglang", False, "not installed", INSTALL)
    attempt = subprocess.run(
        [sys.executable, "-m", "ziglang", "version"], capture_output=True, text=True, check=False
    )
    if attempt.returncode:
        return Tool("ziglang", False, f"does not run: {_last_line(attempt.stderr)}", INSTALL)
    return Tool("ziglang", True, f"ziglang {attempt.stdout.strip()}: compiler and linker for Hexagon")


def _qemu() -> Tool:
    from kernels.hexagon.architectures import built_architectures, probe_elf
    from simulators.hvx import qemu

    reason = qemu.available()
    if reason:
        return Tool("qemu-hexagon", False, "not found", f"sudo {qemu.INSTALL}")
    version = f"version {qemu.version()}"
    newest = qemu.newest_architecture({number: probe_elf(number) for number in built_architectures()})
    if newest is None:
        return Tool("qemu-hexagon", False, f"{version}: it runs no Hexagon program", f"sudo {qemu.INSTALL}")
    return Tool("qemu-hexagon", True, f"{version}: runs Hexagon up to v{newest}")


def _compiled_objects() -> Tool:
    from kernels.hexagon import object_cache

    sizes = [path.stat().st_size for path in object_cache.entries()]
    kept = f"{len(sizes)} compiled Hexagon objects, {sum(sizes) / 2**20:.1f} MiB: {object_cache.directory()}"
    return Tool("cache", True, kept, f"rm -r {object_cache.directory()}" if sizes else None, needed=False)


def _gpu() -> Tool:
    from bench.devices.cuda.probe import probe

    found = probe()
    if found.hardware is None:
        return Tool(
            "GPU", False, "none: tensor-core kernels run on the PTX machine", found.missing, needed=False
        )
    return Tool("GPU", True, f"{found.hardware}: --device cuda", needed=False)


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no message"
