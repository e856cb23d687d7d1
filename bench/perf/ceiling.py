"""How many vrmpy QEMU can execute: a loop of nothing else."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from kernels.hexagon.toolchain import compile_c, link
from simulators.hvx import qemu

TURNS = 200_000
PACKETS = 16
"""Packets of two vrmpy in each turn of the loop."""
PRODUCTS = TURNS * PACKETS * 2 * 128


def ceiling_elf() -> bytes:
    """A program of :data:`TURNS` turns of accumulating vrmpyub; its exit status is 0 after just as many.

    There are as many accumulators as vector registers are left, so that few packets wait for another.
    """
    accumulators = range(2, 2 + 2 * PACKETS - 4)  # v0 and v1 are operands
    packets = "".join(
        f'"{{ v{one}.uw += vrmpy(v0.ub, r2.ub)\\n v{other}.uw += vrmpy(v1.ub, r2.ub) }}\\n"\n'
        for one, other in (
            (accumulators[2 * n % len(accumulators)], accumulators[(2 * n + 1) % len(accumulators)])
            for n in range(PACKETS)
        )
    )
    source = f"""
    void _start(void) {{
      __asm__ volatile(
        "{{ r1 = ##{TURNS} }}\\n{{ r2 = ##0x01020304\\n r4 = r1\\n r3 = #0 }}\\n"
        "{{ v0 = vsplat(r2) }}\\n{{ v1 = vsplat(r2) }}\\n"
        "1:\\n"
        {packets}
        "{{ r1 = add(r1, #-1)\\n p0 = cmp.gtu(r1, #1)\\n r3 = add(r3, #1) }}\\n"
        "{{ if (p0) jump 1b }}\\n"
        "{{ r0 = sub(r4, r3)\\n r6 = #94 }}\\n trap0(#1)" ::: "r0", "r1", "r2", "r3", "r4", "r6", "p0");
      for (;;) {{}}
    }}
    """
    return link([compile_c(source)])


class Ceiling:
    """The loop, ready to be run: :data:`PRODUCTS` products at a time, the start of QEMU included."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bitexact-")
        self._path = Path(self._folder.name) / "ceiling"
        self._path.write_bytes(ceiling_elf())
        self._path.chmod(0o755)

    def run(self) -> None:
        """Execute it to its end."""
        done = subprocess.run([qemu.PROGRAM, str(self._path)], capture_output=True, check=False, timeout=120)
        if done.returncode:
            raise RuntimeError(
                f"the loop of vrmpy ended with {done.returncode}: {done.stderr.decode()[-500:]}"
            )

    def close(self) -> None:
        """Remove the program."""
        self._folder.cleanup()
