"""CUDA C++ to PTX by NVRTC from pip: no CUDA toolkit and no GPU.

A binding to the six functions needed (NVRTC manual, "Compilation" and "General information query"), and
the search for the shared library and the headers that the nvidia-* wheels bring. The layouts of those
wheels differ: CUDA 13 puts all under nvidia/cu13, CUDA 12 has one folder per package.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

INSTALL = (
    "pip install 'nvidia-cuda-nvrtc>=13' 'nvidia-cuda-runtime>=13' 'nvidia-cuda-cccl>=13' "
    "'nvidia-cuda-crt>=13'"
)

# A header that a kernel of TVM includes, and the pip package that brings it. An include directory is a
# folder under which the header lies at this path.
HEADERS = {
    "mma.h": "nvidia-cuda-runtime",
    "crt/mma.h": "nvidia-cuda-crt",
    "cuda/std/cstdint": "nvidia-cuda-cccl",
    "nv/target": "nvidia-cuda-cccl",
}


class NvrtcError(RuntimeError):
    """NVRTC refused: the message ends with its log."""


def package_roots() -> tuple[Path, ...]:
    """Folders of the namespace package `nvidia`, into which all wheels of CUDA install."""
    spec = importlib.util.find_spec("nvidia")
    return tuple(Path(p) for p in spec.submodule_search_locations or ()) if spec else ()


def find_library(roots: Iterable[Path]) -> Path | None:
    """Find the newest libnvrtc under these folders, or None."""
    found = [path for root in roots for path in root.glob("*/lib/libnvrtc.so*") if ".alt." not in path.name]
    return max(found, key=lambda path: [int(part) for part in path.name.split(".")[2:]], default=None)


def find_include_directories(roots: Iterable[Path]) -> tuple[dict[str, Path], list[str]]:
    """For each header of `HEADERS` the include directory that holds it, and the headers not found."""
    places: dict[str, Path] = {}
    for root in roots:
        for directory in sorted({*root.glob("*/include"), *root.glob("*/include/cccl")}):
            for header in HEADERS:
                if header not in places and (directory / header).is_file():
                    places[header] = directory
    return places, [header for header in HEADERS if header not in places]


def nvrtc_available() -> str | None:
    """None where CUDA C++ can be compiled, else the reason, with the line that installs what is missing."""
    roots = package_roots()
    library = find_library(roots)
    if library is None:
        return f"NVRTC is not installed: {INSTALL}"
    _, missing = find_include_directories(roots)
    if missing:
        listed = ", ".join(f"{header} (of {HEADERS[header]})" for header in missing)
        return f"CUDA headers are not installed: {listed}: {INSTALL}"
    try:
        _load(library)
    except (OSError, AttributeError) as error:
        return f"{library.name} cannot be loaded ({error}): {INSTALL}"
    return None


@cache
def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    library.nvrtcGetErrorString.argtypes = [ctypes.c_int]
    strings = ctypes.POINTER(ctypes.c_char_p)
    program, size = ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t)
    for name, arguments in (
        (
            "nvrtcCreateProgram",
            [ctypes.POINTER(program), ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int, strings, strings],
        ),
        ("nvrtcCompileProgram", [program, ctypes.c_int, strings]),
        ("nvrtcGetProgramLogSize", [program, size]),
        ("nvrtcGetProgramLog", [program, ctypes.c_char_p]),
        ("nvrtcGetPTXSize", [program, size]),
        ("nvrtcGetPTX", [program, ctypes.c_char_p]),
        ("nvrtcDestroyProgram", [ctypes.POINTER(program)]),
    ):
        function = getattr(library, name)
        function.argtypes = arguments
        function.restype = ctypes.c_int
    return library


def _strings(texts: Iterable[str]) -> ctypes.Array[ctypes.c_char_p]:
    encoded = [text.encode() for text in texts]
    return (ctypes.c_char_p * len(encoded))(*encoded)


def _checked(library: ctypes.CDLL, function: str, *arguments: object) -> None:
    status = getattr(library, function)(*arguments)
    if status:
        raise NvrtcError(f"{function}: {library.nvrtcGetErrorString(status).decode()}")


def _text(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> str:
    """Fetch the PTX or the log of a program. NVRTC asks for the size first and counts the final zero."""
    size = ctypes.c_size_t()
    _checked(library, f"nvrtcGet{what}Size", program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(max(1, size.value))
    _checked(library, f"nvrtcGet{what}", program, buffer)
    return buffer.value.decode()


def compile_cuda(
    source: str, *, arch: str, name: str = "kernel", headers: Mapping[str, str] | None = None
) -> str:
    """Compile CUDA C++ to PTX text for an architecture such as "sm_80".

    `headers` are texts by the name under which the source includes them; they go before those installed.
    Raises NvrtcError with NVRTC's log where the source does not compile, and where NVRTC or the headers
    are missing (`nvrtc_available` says so beforehand), ValueError for an `arch` not spelled like sm_80.
    """
    family, _, capability = arch.partition("_")
    if family != "sm" or not capability[:2].isdigit():
        raise ValueError(f"arch = {arch!r} is not spelled like 'sm_80'")
    reason = nvrtc_available()
    if reason:
        raise NvrtcError(reason)
    roots = package_roots()
    path = find_library(roots)
    assert path is not None  # nvrtc_available() found it
    library = _load(path)
    directories = dict.fromkeys(find_include_directories(roots)[0].values())
    flags = [f"--gpu-architecture=compute_{capability}", *(f"-I{d}" for d in directories)]
    program = ctypes.c_void_p()
    given = headers or {}
    _checked(
        library,
        "nvrtcCreateProgram",
        ctypes.byref(program),
        source.encode(),
        f"{name}.cu".encode(),
        len(given),
        _strings(given.values()),
        _strings(given),
    )
    try:
        try:
            _checked(library, "nvrtcCompileProgram", program, len(flags), _strings(flags))
        except NvrtcError as error:
            raise NvrtcError(f"{name}: {error}\n{_text(library, program, 'ProgramLog')}") from None
        return _text(library, program, "PTX")
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))
