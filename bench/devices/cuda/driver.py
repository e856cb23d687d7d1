"""A binding to the functions of the CUDA driver API that loading and launching PTX takes.

Source: the CUDA driver API manual, and cuda.h for the versions of the functions and the values of the
enumerators. The library is the driver's own, libcuda.so.1: it comes with the driver of the GPU, and there
is none without.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

LIBRARY = "libcuda.so.1"

# CUresult
NO_DEVICE = 100
INVALID_PTX = 218
UNSUPPORTED_PTX_VERSION = 222
NO_BINARY_FOR_GPU = 209
# CUjit_option
JIT_INFO_LOG, JIT_INFO_LOG_BYTES, JIT_ERROR_LOG, JIT_ERROR_LOG_BYTES = 3, 4, 5, 6
# CUdevice_attribute
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
# CUfunction_attribute
MAX_DYNAMIC_SHARED_BYTES = 8

_int, _uint, _size, _handle = ctypes.c_int, ctypes.c_uint, ctypes.c_size_t, ctypes.c_void_p
_address = ctypes.c_uint64
_handles = ctypes.POINTER(_handle)
_text = ctypes.POINTER(ctypes.c_char_p)

SIGNATURES: Mapping[str, tuple[Any, ...]] = {
    "cuInit": (_uint,),
    "cuDriverGetVersion": (ctypes.POINTER(_int),),
    "cuDeviceGetCount": (ctypes.POINTER(_int),),
    "cuDeviceGet": (ctypes.POINTER(_int), _int),
    "cuDeviceGetName": (ctypes.c_char_p, _int, _int),
    "cuDeviceGetAttribute": (ctypes.POINTER(_int), _int, _int),
    "cuDevicePrimaryCtxRetain": (_handles, _int),
    "cuDevicePrimaryCtxRelease_v2": (_int,),
    "cuCtxSetCurrent": (_handle,),
    "cuCtxSynchronize": (),
    "cuModuleLoadDataEx": (_handles, ctypes.c_char_p, _uint, ctypes.POINTER(_int), _handles),
    "cuModuleUnload": (_handle,),
    "cuModuleGetFunction": (_handles, _handle, ctypes.c_char_p),
    "cuFuncSetAttribute": (_handle, _int, _int),
    "cuMemAlloc_v2": (ctypes.POINTER(_address), _size),
    "cuMemFree_v2": (_address,),
    "cuMemsetD8_v2": (_address, ctypes.c_ubyte, _size),
    "cuMemcpyHtoD_v2": (_address, _handle, _size),
    "cuMemcpyDtoH_v2": (_handle, _address, _size),
    "cuEventCreate": (_handles, _uint),
    "cuEventRecord": (_handle, _handle),
    "cuEventElapsedTime": (ctypes.POINTER(ctypes.c_float), _handle, _handle),
    "cuEventDestroy_v2": (_handle,),
    "cuLaunchKernel": (_handle, *(_uint,) * 7, _handle, _handles, _handles),
    "cuGetErrorName": (_int, _text),
    "cuGetErrorString": (_int, _text),
}  # fmt: skip


class CudaError(Exception):
    """A function of the driver failed: which one, the code, and what the driver calls and says of it."""

    def __init__(self, function: str, code: int, name: str, text: str) -> None:
        super().__init__(f"{function}: {name}: {text}")
        self.function = function
        self.code = code
        self.name = name


class Driver:
    """The driver's library. Raises OSError where it cannot be loaded or lacks a function."""

    def __init__(self, library: str = LIBRARY) -> None:
        self._library = ctypes.CDLL(library)
        try:
            for name, arguments in SIGNATURES.items():
                function = getattr(self._library, name)
                function.argtypes, function.restype = arguments, _int
        except AttributeError as error:
            raise OSError(f"{library} is no CUDA driver: {error}") from None

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of :data:`SIGNATURES`; CudaError where it does not return success."""
        code = getattr(self._library, name)(*arguments)
        if code:
            unnamed = f"error {code}"
            raise CudaError(name, code, self._said("cuGetErrorName", code) or unnamed,
                            self._said("cuGetErrorString", code) or "no description")  # fmt: skip

    def _said(self, function: str, code: int) -> str:
        text = ctypes.c_char_p()
        failed = getattr(self._library, function)(code, ctypes.byref(text))
        return "" if failed or text.value is None else text.value.decode(errors="replace")
