"""CUDA C++ to PTX with NVRTC from pip, so that tests run what a real compiler writes."""

import ctypes
from functools import cache
from pathlib import Path

import pytest


@cache
def _library() -> tuple[ctypes.CDLL, Path]:
    nvidia = pytest.importorskip("nvidia", reason="NVRTC: pip install nvidia-cuda-nvrtc nvidia-cuda-runtime")
    for root in nvidia.__path__:
        for library in sorted(Path(root).glob("cu1*/lib/libnvrtc.so*")):
            return ctypes.CDLL(str(library)), library.parent.parent / "include"
    pytest.skip("NVRTC: pip install nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cuda-crt nvidia-cuda-cccl")


@cache
def compile_ptx(source: str, architecture: str = "compute_80") -> str:
    """The PTX of a CUDA C++ source; AssertionError with the compiler's log where it does not compile."""
    library, include = _library()
    program = ctypes.c_void_p()
    assert (
        library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None) == 0
    )
    options = [f"--gpu-architecture={architecture}", f"-I{include}", f"-I{include}/cccl"]
    encoded = (ctypes.c_char_p * len(options))(*[o.encode() for o in options])
    failed = library.nvrtcCompileProgram(program, len(options), encoded)
    assert not failed, _text(library, program, "ProgramLog")
    return _text(library, program, "PTX")


def _text(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> str:
    size = ctypes.c_size_t()
    getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    getattr(library, f"nvrtcGet{what}")(program, buffer)
    return buffer.value.decode()
