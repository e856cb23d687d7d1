"""NVIDIA's assembler of PTX, from the wheel nvidia-nvjitlink: what it takes, a driver takes.

A binding to the functions needed (nvJitLink manual). Their names end with the version of the library.
"""

from __future__ import annotations

import ctypes
from functools import cache

from kernels.tensorcore.nvrtc import package_roots

INSTALL = "pip install 'nvidia-nvjitlink>=13'"
INPUT_PTX = 2
VERSIONS = ("", *(f"_13_{minor}" for minor in range(9, -1, -1)))


@cache
def assembler_missing() -> str | None:
    """None where the assembler is there, else the reason with what installs it."""
    return None if _library() else f"NVIDIA's assembler is missing: {INSTALL}"


@cache
def _library() -> ctypes.CDLL | None:
    paths = sorted(path for root in package_roots() for path in root.glob("*/lib/libnvJitLink.so*"))
    return ctypes.CDLL(str(paths[-1])) if paths else None


def _call(name: str, *arguments: object) -> int:
    library = _library()
    for version in VERSIONS:
        function = getattr(library, f"__{name}{version}" if version else name, None)
        if function is not None:
            status: int = function(*arguments)
            return status
    raise AttributeError(f"the assembler has no function {name}")


def assemble(text: str, capability: int) -> str:
    """Assemble PTX for an architecture: what the assembler has against it, empty where it takes it."""
    handle, options = ctypes.c_void_p(), (ctypes.c_char_p * 1)(f"-arch=sm_{capability}".encode())
    assert _call("nvJitLinkCreate", ctypes.byref(handle), 1, options) == 0
    data = text.encode() + b"\0"
    length = ctypes.c_size_t(len(data))
    try:
        if not (
            _call("nvJitLinkAddData", handle, INPUT_PTX, data, length, b"kernel.ptx")
            or _call("nvJitLinkComplete", handle)
        ):
            return ""
        size = ctypes.c_size_t()
        _call("nvJitLinkGetErrorLogSize", handle, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value + 1)
        _call("nvJitLinkGetErrorLog", handle, log)
        return log.value.decode() or "refused without a reason"
    finally:
        _call("nvJitLinkDestroy", ctypes.byref(handle))
