"""A driver for a VTA board, and a program that is sent to it (docs/vta_driver.md).

    python examples/vta_board_driver.py

starts ``bitexact serve`` with the driver below on loopback, sends it one saved program with its DRAM image
over TVM RPC, and then runs a whole network there. `Board` is the driver; on a board it stays as it is, but
for `Fabric`, which stands for the board's memory and the registers of its VTA and has a simulated one behind
them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tvm

import bench
from bench.artifact import Artifact, TensorSpec
from bench.compare.verdict import Verdict
from bench.devices.counters import IN_CODE
from bench.devices.failure import timeout
from bench.devices.machines.vta import Arguments, VtaPrograms
from simulators.report import Report
from simulators.vta import Config, Machine, Program, load

PAGE = 4096
POLLS = 1000


class Fabric:
    """A board's physical memory and its VTA: what a driver reaches by /dev/mem and a contiguous allocation.

    The memory that VTA reaches begins somewhere, here at 1 MiB. The instructions lie in it too: VTA fetches
    them from an address when it is started, and says when it has come to FINISH.
    """

    FIRST = 1 << 20

    def __init__(self, config: Config) -> None:
        self.memory = np.zeros(self.FIRST, np.uint8)
        self._vta = Machine(config)
        self._done = False

    def allocate(self, nbytes: int) -> int:
        """The physical address of so many bytes in a row, on a page."""
        address = self.memory.size
        pages = np.zeros(-(-nbytes // PAGE) * PAGE, np.uint8)
        self.memory = np.concatenate([self.memory, pages])
        return address

    def free_all(self) -> None:
        """Give all memory back."""
        self.memory = self.memory[: self.FIRST]

    def start(self, address: int, count: int) -> None:
        """Write address and number of instructions to the registers of the fetch module, and start it."""
        words = self.memory[address : address + 16 * count].view("<u8").reshape(-1, 2).astype(np.uint64)
        findings = self._vta.run(words, self.memory).findings
        self._done = all(each.severity != "error" for each in findings)

    def done(self) -> bool:
        """The done register of the compute module."""
        return self._done


class Board(VtaPrograms):
    """The driver: a machine of the target ``vta``, for ``--device examples/vta_board_driver.py:Board``."""

    hardware = "VTA on a board (an example: simulated)"

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(files)
        self._fabric = Fabric(self.config)

    def run(self, program: Program, arrays: Arguments) -> tuple[dict[str, np.ndarray], Report]:
        """Put DRAM image and instructions into the board's memory, start VTA, and read the results."""
        fabric, image = self._fabric, program.image(arrays)
        place = fabric.allocate(image.size)
        fabric.memory[place : place + image.size] = image
        # The image lies at `place` and not at 0: each LOAD and STORE has to know.
        words = np.frombuffer(program.insns_at(place).astype("<u8").tobytes(), np.uint8)
        stream = fabric.allocate(words.size)
        fabric.memory[stream : stream + words.size] = words
        # On a board with caches that VTA does not see: flush here.
        fabric.start(stream, len(program.insns))
        if not any(fabric.done() for _ in range(POLLS)):
            raise timeout("VTA did not come to FINISH")
        # And invalidate here.
        outputs = program.outputs_in(fabric.memory[place : place + image.size])
        fabric.free_all()
        # A board does not count what it executes; how much stands in the program is known.
        return outputs, Report({IN_CODE: program.counters["gemm_counter"]}, [])


@contextmanager
def served() -> Iterator[str]:
    """``bitexact serve`` with this driver on a free port of loopback: its address."""
    command = [sys.executable, "-m", "bench", "serve", "--port", "0", "--device", f"{__file__}:Board"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait()


def save_program(path: Path) -> dict[str, np.ndarray]:
    """Compile a convolution, lay out its DRAM, and save both in a file; its results, by a simulator here."""
    from kernels.vta import conv2d

    program = conv2d(
        (1, 2, 14, 14, 1, 16),
        (2, 2, 3, 3, 16, 16),
        padding=(1, 1, 1, 1),
        epilogue=[("shr", 8), ("add", "bias"), ("max", 0), ("min", 127)],
    )
    rng = np.random.default_rng(0)
    arrays = {each.name: rng.integers(-128, 128, each.shape).astype(each.dtype) for each in program.arguments}
    path.write_bytes(program.with_image(arrays).to_bytes())
    return program.run(Machine(program.config), arrays)[0]


def run_program(path: Path, address: str) -> tuple[np.ndarray, dict[str, object]]:
    """Send a saved program to a server, and let it run there: its first result, and what was counted.

    The server wants an artefact, a zip of the machine's files; this one has no graph around its program. All
    that the program reads is in its DRAM image, so the call has one argument, for the result.
    """
    out = load(path.read_bytes()).outputs[0]
    artifact = Artifact(
        target="vta",
        inputs=(),
        outputs=(TensorSpec(out.name, out.shape, out.dtype),),
        kernels=(path.stem,),
        host_library=b"",
        machine={path.name: path.read_bytes()},
    )
    host, _, port = address.removeprefix("rpc://").rpartition(":")
    remote = tvm.rpc.connect(host, int(port))
    remote.get_function("bitexact.load")(bytearray(artifact.to_bytes()))
    result = tvm.runtime.tensor(np.zeros(out.shape, out.dtype), remote.cpu())
    remote.get_function("bitexact.call")(path.stem, result)
    report = json.loads(str(remote.get_function("bitexact.report")()))
    return result.numpy(), {"hardware": report["hardware"], **report["kernels"][path.stem]["counters"]}


def run_network(address: str) -> Verdict:
    """The whole of ``digits`` on the server."""
    from bench import workloads
    from bench.passes import quantize, quantize_input

    digits = workloads.load("digits", batch=2)
    module = quantize(digits.module, digits.calibration, scheme="pow2")
    return bench.run(module, quantize_input(module, digits.images), "vta", address)


def main() -> int:
    """Do both; 0 where all is exact."""
    with served() as address, tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "convolution.vta")
        expected = save_program(path)["out"]
        result, counters = run_program(path, address)
        same = np.array_equal(result, expected)
        print(f"{path.name}, {path.stat().st_size:,} bytes with its DRAM image, at {address}: {counters}")
        print(f"{result.size:,} numbers, {'the same' if same else 'NOT the same'} as on the simulator here")
        verdict = run_network(address)
        print(f"digits at {address}: {verdict.verdict}")
    return 0 if same and verdict.exact else 1


if __name__ == "__main__":
    sys.exit(main())
