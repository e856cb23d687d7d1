"""The first GPU that the driver shows: PTX modules on it, and launches with memory that is watched.

Each tensor lies on the GPU between two guards, and all of its memory is poisoned before the inputs are
copied: what a kernel leaves unwritten is no earlier result, and what it writes beside a tensor is seen.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from bench.devices.cuda.driver import (
    CAPABILITY_MAJOR,
    CAPABILITY_MINOR,
    JIT_ERROR_LOG,
    JIT_ERROR_LOG_BYTES,
    JIT_INFO_LOG,
    JIT_INFO_LOG_BYTES,
    MAX_DYNAMIC_SHARED_BYTES,
    NO_DEVICE,
    CudaError,
    Driver,
)

GUARD_BYTES = 256
"""What cuMemAlloc aligns to, so that a tensor behind its guard is aligned as one without."""
POISON = 0xA5
LOG_BYTES = 16384
STATIC_SHARED_BYTES = 48 * 1024


class PtxRefusedError(Exception):
    """The driver does not compile a PTX text; the message ends with its log."""

    def __init__(self, error: CudaError, log: str) -> None:
        super().__init__(f"{error}{f'; its log:{chr(10)}{log}' if log else ''}")
        self.code = error.code


@dataclass(frozen=True)
class Launch:
    """What came of a launch: the GPU's own time for it, and the tensors whose guards it overwrote."""

    nanoseconds: int
    overwritten: Mapping[int, str]


class Gpu:
    """The primary context of GPU 0 (CUDA_VISIBLE_DEVICES chooses which that is).

    Raises OSError where there is no driver, CudaError where it refuses or shows no GPU.
    """

    def __init__(self, driver: Driver | None = None) -> None:
        self._driver = driver or Driver()
        self._modules: list[ctypes.c_void_p] = []
        self._driver.call("cuInit", 0)
        count, device = ctypes.c_int(), ctypes.c_int()
        self._driver.call("cuDeviceGetCount", ctypes.byref(count))
        if not count.value:
            raise CudaError("cuDeviceGetCount", NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "the driver counts 0 GPUs")
        self._driver.call("cuDeviceGet", ctypes.byref(device), 0)
        self._device = device.value
        self._context = ctypes.c_void_p()
        self._retained = False

    def __enter__(self) -> Gpu:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def capability(self) -> int:
        """Major and minor compute capability in two digits or three, as in sm_90."""
        return 10 * self._attribute(CAPABILITY_MAJOR) + self._attribute(CAPABILITY_MINOR)

    @property
    def cuda_version(self) -> str:
        """The newest version of CUDA that the driver can serve, as "12.4"."""
        version = ctypes.c_int()
        self._driver.call("cuDriverGetVersion", ctypes.byref(version))
        return f"{version.value // 1000}.{version.value % 1000 // 10}"

    @property
    def description(self) -> str:
        """Name, capability and driver, as in "NVIDIA A10 (sm_86), driver of CUDA 12.4"."""
        name = ctypes.create_string_buffer(256)
        self._driver.call("cuDeviceGetName", name, len(name), self._device)
        return f"{name.value.decode()} (sm_{self.capability}), driver of CUDA {self.cuda_version}"

    def load(self, text: bytes, entry: str) -> ctypes.c_void_p:
        """Compile PTX text: the function of a kernel in it. Raises PtxRefusedError, CudaError."""
        self._enter()
        info, error = (ctypes.create_string_buffer(LOG_BYTES) for _ in range(2))
        # The value of an option is a pointer, or a number in the place of one.
        options = {
            JIT_INFO_LOG: ctypes.addressof(info),
            JIT_INFO_LOG_BYTES: LOG_BYTES,
            JIT_ERROR_LOG: ctypes.addressof(error),
            JIT_ERROR_LOG_BYTES: LOG_BYTES,
        }
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        try:
            self._driver.call(
                "cuModuleLoadDataEx",
                ctypes.byref(module),
                text,  # bytes end with a zero in ctypes, as the driver wants it
                len(options),
                (ctypes.c_int * len(options))(*options),
                (ctypes.c_void_p * len(options))(*options.values()),
            )
        except CudaError as refusal:
            log = error.value.decode(errors="replace").strip()
            raise PtxRefusedError(refusal, log) from None
        self._modules.append(module)
        self._driver.call("cuModuleGetFunction", ctypes.byref(function), module, entry.encode())
        return function

    def launch(
        self,
        function: ctypes.c_void_p,
        grid: Sequence[int],
        block: Sequence[int],
        inputs: Sequence[np.ndarray],
        output: np.ndarray,
        *,
        order: Sequence[int],
        dynamic_shared: int = 0,
    ) -> Launch:
        """Run a kernel to its end and fill ``output``, a contiguous array.

        The kernel's parameters are pointers: ``order`` names for each the tensor it points to, by its place
        among the inputs, with the output as the last. Raises CudaError, after which a GPU may be of no
        further use.
        """
        self._enter()
        tensors = [*(np.ascontiguousarray(array) for array in inputs), output]
        if not output.flags.c_contiguous:
            raise ValueError("the output of a kernel must be contiguous")
        bases: list[int] = []
        try:
            for tensor in tensors:
                bases.append(self._allocate(tensor.nbytes + 2 * GUARD_BYTES))
            for tensor, base in zip(tensors[:-1], bases, strict=False):
                self._upload(base + GUARD_BYTES, tensor)
            if dynamic_shared > STATIC_SHARED_BYTES:
                self._driver.call("cuFuncSetAttribute", function, MAX_DYNAMIC_SHARED_BYTES, dynamic_shared)
            nanoseconds = self._timed(function, grid, block, [bases[i] for i in order], dynamic_shared)
            self._download(output, bases[-1] + GUARD_BYTES)
            overwritten = {
                number: place
                for number, (tensor, base) in enumerate(zip(tensors, bases, strict=True))
                if (place := self._overwritten(base, tensor.nbytes))
            }
        finally:
            for base in bases:
                self._release("cuMemFree_v2", base)
        return Launch(nanoseconds, overwritten)

    def close(self) -> None:
        """Unload everything. May be called again."""
        while self._modules:
            self._release("cuModuleUnload", self._modules.pop())
        if self._retained:
            self._retained = False
            self._release("cuDevicePrimaryCtxRelease_v2", self._device)

    def _attribute(self, attribute: int) -> int:
        value = ctypes.c_int()
        self._driver.call("cuDeviceGetAttribute", ctypes.byref(value), attribute, self._device)
        return value.value

    def _enter(self) -> None:
        """Make the context current: it is so for a thread, and TVM may call from several."""
        if not self._retained:
            self._driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
            self._retained = True
        self._driver.call("cuCtxSetCurrent", self._context)

    def _release(self, function: str, what: object) -> None:
        """Give something back; where the GPU has failed before, that fails too and says nothing new."""
        try:
            self._driver.call(function, what)
        except CudaError:
            return

    def _allocate(self, size: int) -> int:
        base = ctypes.c_uint64()
        self._driver.call("cuMemAlloc_v2", ctypes.byref(base), size)
        try:
            self._driver.call("cuMemsetD8_v2", base, POISON, size)
        except CudaError:
            self._release("cuMemFree_v2", base)
            raise
        return base.value

    def _upload(self, address: int, tensor: np.ndarray) -> None:
        if tensor.nbytes:
            self._driver.call("cuMemcpyHtoD_v2", address, tensor.ctypes.data, tensor.nbytes)

    def _download(self, tensor: np.ndarray, address: int) -> None:
        if tensor.nbytes:
            self._driver.call("cuMemcpyDtoH_v2", tensor.ctypes.data, address, tensor.nbytes)

    def _timed(
        self,
        function: ctypes.c_void_p,
        grid: Sequence[int],
        block: Sequence[int],
        bases: Sequence[int],
        dynamic_shared: int,
    ) -> int:
        """Launch between two events, wait, and give the nanoseconds between them."""
        values = [ctypes.c_uint64(base + GUARD_BYTES) for base in bases]
        parameters = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        events = []
        try:
            for _ in range(2):
                event = ctypes.c_void_p()
                self._driver.call("cuEventCreate", ctypes.byref(event), 0)
                events.append(event)
            before, after = events
            self._driver.call("cuEventRecord", before, None)
            self._driver.call(
                "cuLaunchKernel", function, *grid, *block, dynamic_shared, None, parameters, None
            )
            self._driver.call("cuEventRecord", after, None)
            self._driver.call("cuCtxSynchronize")
            milliseconds = ctypes.c_float()
            self._driver.call("cuEventElapsedTime", ctypes.byref(milliseconds), before, after)
            return round(milliseconds.value * 1e6)
        finally:
            for event in events:
                self._release("cuEventDestroy_v2", event)

    def _overwritten(self, base: int, size: int) -> str:
        """Where beside a tensor something was written; empty where nothing was."""
        guard = np.empty(GUARD_BYTES, np.uint8)
        places = []
        for where, address in (("before", base), ("behind", base + GUARD_BYTES + size)):
            self._download(guard, address)
            if changed := int(np.count_nonzero(guard != POISON)):
                places.append(f"{changed} bytes {where} it")
        return " and ".join(places)
