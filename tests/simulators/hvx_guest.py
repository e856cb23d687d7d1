"""Small guests for qemu-hexagon, written in C and linked with the function server."""

from collections.abc import Sequence

import pytest

from kernels.hexagon import toolchain
from kernels.hexagon.build import link_server
from simulators.hvx import qemu

needs_qemu = pytest.mark.skipif(qemu.available() is not None, reason=str(qemu.available()))
needs_toolchain = pytest.mark.skipif(toolchain.available() is not None, reason=str(toolchain.available()))


def guest(source: str, names: Sequence[str]) -> bytes:
    """An ELF that serves the functions `__tvm_ffi_NAME` of a piece of C."""
    return link_server([toolchain.compile_c('#include "server.h"\n' + source)], names)
