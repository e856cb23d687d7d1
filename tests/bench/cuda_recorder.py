"""The recorder in the place of the CUDA driver (cuda_recorder.c): built with zig, and told what to do.

In the process of a test it can be given the PTX machine to execute what is launched. In any other process
it executes nothing, so that results stay the poison that they were: it can make no verdict ``exact``.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np

from bench.devices.cuda.driver import LIBRARY, Driver
from simulators import ptx

SOURCE = Path(__file__).with_name("cuda_recorder.c")


def build_recorder(folder: Path) -> Path:
    """Compile the recorder to a folder, under the name of the driver's library."""
    library = folder / LIBRARY
    command = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-O1", "-fno-sanitize=undefined"]
    subprocess.run([*command, str(SOURCE), "-o", str(library)], check=True)
    return library


class ExecutingRecorder:
    """The recorder as a driver of this process, with the PTX machine behind its launches.

    A kernel's parameters are all pointers. What a pointer points to is the rest of its allocation.
    """

    def __init__(self, library: Path) -> None:
        self.driver = Driver(str(library))
        self._library = ctypes.CDLL(str(library))
        self._library.recorder_host.restype = ctypes.c_void_p
        self._library.recorder_host.argtypes = [ctypes.c_uint64, ctypes.POINTER(ctypes.c_size_t)]
        kind = ctypes.CFUNCTYPE(
            None, ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint), ctypes.c_uint,
            ctypes.POINTER(ctypes.POINTER(ctypes.c_uint64)),
        )  # fmt: skip
        self._callback = kind(self._launch)
        self._library.recorder_is_not_a_gpu(self._callback)

    @property
    def live_allocations(self) -> int:
        """How many buffers have not been given back."""
        return int(self._library.recorder_live_allocations())

    def expect_failures_from_now(self) -> None:
        """Begin to count the calls that RECORDER_FAIL speaks of."""
        self._library.recorder_expect_failures_from_now()

    def close(self) -> None:
        """Execute nothing any more."""
        self._library.recorder_is_not_a_gpu(None)

    def _launch(self, text: bytes, entry: bytes, geometry, shared: int, values) -> None:
        module, name = ptx.parse(text.decode()), entry.decode()
        buffers = [self._memory(values[i][0]) for i in range(len(module.kernels[name].parameters))]
        module.launch(name, geometry[:3], geometry[3:6], buffers, dynamic_shared=shared)

    def _memory(self, address: int) -> np.ndarray:
        left = ctypes.c_size_t()
        host = self._library.recorder_host(address, ctypes.byref(left))
        return np.ctypeslib.as_array((ctypes.c_uint8 * left.value).from_address(host))
