"""Launching a kernel: geometry, arguments, groups of blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from simulators.ptx.errors import LaunchError, UnknownKernelError
from simulators.ptx.findings import Findings
from simulators.ptx.group import Counts, Group, Run
from simulators.ptx.local_memory import LocalMemory
from simulators.ptx.memory import GlobalMemory, SharedMemory, flat_bytes
from simulators.ptx.parser import ParsedModule, parse_module
from simulators.ptx.program import Program, build, parameter_bytes
from simulators.ptx.races import MAX_BLOCKS, AccessLog, Races
from simulators.ptx.syntax import Kernel, Parameter
from simulators.ptx.types import DTYPES
from simulators.report import Report

LANES = 32
# Enough threads that NumPy's cost for each call vanishes, few enough that a group's registers stay in the
# caches.
GROUP_WARPS = 512
GROUP_BYTES = 400 << 20
DEFAULT_BUDGET = 10**11
# Where functions lie, far from all memory.
FUNCTIONS = 1 << 60
MAX_BLOCK = (1024, 1024, 64)
MAX_GRID = (2**31 - 1, 65535, 65535)

_TRAFFIC = (
    "global_load_bytes", "global_store_bytes", "shared_load_bytes", "shared_store_bytes",
    "local_load_bytes", "local_store_bytes", "const_load_bytes",
    "global_load_sectors", "global_store_sectors", "shared_transactions", "shared_bank_conflicts",
)  # fmt: skip


def parse(text: str) -> "Module":
    """PTX text to a module. PtxSyntaxError names the line of what is not PTX."""
    return Module(parse_module(text))


@dataclass(frozen=True)
class Geometry:
    """The shape of a launch: (x, y, z) of the grid and of a block."""

    grid: tuple[int, int, int]
    block: tuple[int, int, int]

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.block[0] * self.block[1] * self.block[2]

    @property
    def warps(self) -> int:
        """Warps of a block, the last perhaps not full."""
        return -(-self.threads // LANES)

    @property
    def blocks(self) -> int:
        """Blocks of the grid."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    def locate(self, block: int, warp: int, lane: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Give the (x, y, z) of a block and of a thread in it."""
        return _coordinates(block, self.grid), _coordinates(warp * LANES + lane, self.block)

    @cached_property
    def thread_specials(self) -> dict[str, np.ndarray]:
        """Special registers that depend on the thread, or on nothing: (1, warps, lanes), 1 where uniform."""
        thread = np.arange(self.warps * LANES, dtype=np.uint32).reshape(1, self.warps, LANES)
        lane = np.arange(LANES, dtype=np.uint32).reshape(1, 1, LANES)
        found = {"%laneid": lane, "%warpid": thread[:, :, :1] // np.uint32(LANES)}
        for name, value in zip("xyz", _coordinates(thread, self.block), strict=True):
            found[f"%tid.{name}"] = _reduced(value)
        for index, name in enumerate("xyz"):
            found[f"%ntid.{name}"] = _one(self.block[index])
            found[f"%nctaid.{name}"] = _one(self.grid[index])
        found["%nwarpid"] = _one(self.warps)
        found["%warpsize"] = _one(LANES)
        bit = np.uint32(1) << lane
        found["%lanemask_eq"] = bit
        found["%lanemask_lt"] = bit - np.uint32(1)
        found["%lanemask_le"] = bit | (bit - np.uint32(1))
        found["%lanemask_gt"] = ~found["%lanemask_le"]
        found["%lanemask_ge"] = ~found["%lanemask_lt"]
        return found

    def specials(self, first: int, blocks: int) -> dict[str, np.ndarray]:
        """All special registers for some consecutive blocks."""
        block = np.arange(first, first + blocks).reshape(blocks, 1, 1)
        place = zip("xyz", _coordinates(block, self.grid), strict=True)
        return self.thread_specials | {
            f"%ctaid.{name}": _reduced(value.astype(np.uint32)) for name, value in place
        }


def _coordinates(linear: Any, extent: tuple[int, int, int]) -> tuple:
    x, y, _ = extent
    return linear % x, linear // x % y, linear // (x * y)


def _one(value: int) -> np.ndarray:
    return np.full((1, 1, 1), value, np.uint32)


def _reduced(value: np.ndarray) -> np.ndarray:
    """Give the same values with length 1 along every axis on which they do not vary."""
    for axis in range(value.ndim):
        first = value.take([0], axis=axis)
        if (value == first).all():
            value = first
    return value


class Module:
    """A parsed PTX file."""

    def __init__(self, parsed: ParsedModule) -> None:
        self._parsed = parsed
        self._programs: dict[str, Program] = {}

    @property
    def kernels(self) -> dict[str, Kernel]:
        """The kernels by name."""
        return self._parsed.kernels

    def launch(  # noqa: PLR0917  (the public signature)
        self,
        kernel: str,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        args: Sequence[np.ndarray | int | float | bytes],
        dynamic_shared: int = 0,
        check: bool = True,
        *,
        instruction_budget: int = DEFAULT_BUDGET,
    ) -> Report:
        """Run a kernel to its end.

        `grid` and `block` are an int or up to three, x first. `args` has one entry for each parameter: a
        NumPy array for a 64-bit pointer (updated in place; the same array given twice is one buffer), a
        Python number for a scalar, bytes for a structure. `dynamic_shared` is in bytes. With `check`,
        accesses that a device would let pass or fault on are findings: they are not done, and such loads
        give zero. Without it, only what leaves all memory or is misaligned stops the run
        (IllegalAddressError). After `instruction_budget` warp instructions the run stops with
        InstructionBudgetError.

        Raises UnknownKernelError, LaunchError, UnsupportedInstructionError, PtxSyntaxError.
        """
        program = self._program(kernel)
        geometry = Geometry(_extent("grid", grid, MAX_GRID), _extent("block", block, MAX_BLOCK))
        if geometry.threads > 1024:
            raise LaunchError(
                f"a block of {geometry.block} has {geometry.threads} threads; at most 1024 are possible"
            )
        if dynamic_shared < 0:
            raise LaunchError(f"dynamic_shared must not be negative, is {dynamic_shared}")
        memory = GlobalMemory()
        values, buffers = _bind(program.kernel, args, memory)
        _place_variables(self._parsed, memory)
        parameters = parameter_bytes(program.kernel, values)
        for parameter in program.kernel.parameters:
            if parameter.structured:
                address = memory.add(parameters[parameter.name], max(parameter.align, 16))
                memory.symbols[parameter.name] = address
        memory.map()
        findings = Findings(check, kernel, geometry, program.instructions)
        counts = Counts(budget=instruction_budget, traffic=dict.fromkeys(_TRAFFIC, 0))
        counts.warps_at = [0] * len(program.steps)
        run = Run(program, memory, parameters, findings, counts)
        with np.errstate(all="ignore"):
            _run_groups(run, geometry, program.shared_size + dynamic_shared)
        for array, index in buffers:
            _copy_back(array, memory.contents(index))
        counts.traffic["global_compulsory_bytes"] = memory.touched()
        return Report(_counters(program, counts), findings.collected())

    def _program(self, kernel: str) -> Program:
        if kernel not in self._parsed.kernels:
            names = ", ".join(sorted(self._parsed.kernels)) or "none"
            raise UnknownKernelError(f"no kernel {kernel!r} in this module; it has: {names}")
        if kernel not in self._programs:
            self._programs[kernel] = build(
                self._parsed.kernels[kernel], self._parsed.variables, self._parsed.functions
            )
        return self._programs[kernel]


def _place_variables(parsed: ParsedModule, memory: GlobalMemory) -> None:
    """Put module variables into global memory, those that point to others with their addresses.

    Functions have addresses too, so that they can be told apart; nothing lies there.
    """
    memory.symbols |= {name: FUNCTIONS + 16 * number for number, name in enumerate(parsed.functions)}
    held = {}
    for variable in parsed.variables:
        if variable.space != "shared":
            contents = np.frombuffer(variable.initial.ljust(variable.size, b"\0"), np.uint8).copy()
            held[variable.name] = contents
            memory.symbols[variable.name] = memory.add(contents, max(variable.align, 16))
    for variable in parsed.variables:
        for at, name, offset in variable.pointers:
            if name not in memory.symbols:
                raise LaunchError(
                    f"variable {variable.name} holds the address of {name}, which is not declared"
                )
            address = np.uint64(memory.symbols[name] + offset)
            held[variable.name][at : at + 8] = np.frombuffer(address.tobytes(), np.uint8)


def _run_groups(run: Run, geometry: Geometry, shared_size: int) -> None:
    """Run all blocks, some at a time."""
    at_once = _blocks_at_once(run.program, geometry, shared_size)
    log = AccessLog()
    threads = np.arange(geometry.warps * LANES).reshape(1, geometry.warps, LANES)
    for first in range(0, geometry.blocks, at_once):
        blocks = min(at_once, geometry.blocks - first)
        shape = (blocks, geometry.warps, LANES)
        live = np.broadcast_to(threads < geometry.threads, shape) if geometry.threads % LANES else None
        run.findings.first_block, run.findings.shape = first, shape
        special = geometry.specials(first, blocks)
        local = LocalMemory(shape, run.program.local_size)
        races = Races(log, run.findings, shape, first) if run.findings.check else None
        Group(run, shape, SharedMemory(blocks, shared_size), local, special, live=live, races=races).run()


def _extent(name: str, given: int | Sequence[int], limits: tuple[int, int, int]) -> tuple[int, int, int]:
    """Take an int or up to three of them as (x, y, z); LaunchError where one is out of range."""
    sizes = tuple(given) if isinstance(given, Sequence | np.ndarray) else (given,)
    if not 1 <= len(sizes) <= 3 or not all(isinstance(s, int | np.integer) for s in sizes):
        raise LaunchError(f"{name} {given!r} must be an int or one to three of them")
    full = tuple(int(s) for s in sizes) + (1,) * (3 - len(sizes))
    for axis, size, limit in zip("xyz", full, limits, strict=True):
        if not 1 <= size <= limit:
            raise LaunchError(f"{name}.{axis} is {size}, must be 1 to {limit}")
    return full[0], full[1], full[2]


def _bind(
    kernel: Kernel, args: Sequence[np.ndarray | int | float | bytes], memory: GlobalMemory
) -> tuple[list[int | float | bytes], list[tuple[np.ndarray, int]]]:
    """Arguments as parameter values, arrays as buffers of global memory."""
    if len(args) != len(kernel.parameters):
        wanted = ", ".join(f".{p.type}" for p in kernel.parameters)
        raise LaunchError(
            f"kernel {kernel.name} takes {len(kernel.parameters)} arguments ({wanted}), not {len(args)}"
        )
    values: list[int | float | bytes] = []
    buffers: list[tuple[np.ndarray, int]] = []
    addresses: dict[int, int] = {}
    for index, (parameter, arg) in enumerate(zip(kernel.parameters, args, strict=True)):
        what = f"argument {index} of kernel {kernel.name} (.{parameter.type} {parameter.name})"
        if parameter.structured:
            if not isinstance(arg, bytes) or len(arg) != parameter.size:
                got = f"{len(arg)} bytes" if isinstance(arg, bytes) else type(arg).__name__
                raise LaunchError(f"{what} is a structure: give {parameter.size} bytes, not {got}")
            values.append(arg)
            continue
        if not isinstance(arg, np.ndarray):
            values.append(_scalar(what, parameter, arg))
            continue
        if DTYPES[parameter.type].itemsize != 8 or parameter.type == "f64":
            raise LaunchError(f"{what} is a scalar, not a pointer: give a number, not an array")
        if arg.dtype.name in ("int4", "uint4", "int2", "uint2"):
            raise LaunchError(
                f"{what}: NumPy holds {arg.dtype.name} one to a byte; pack it, eight to a 32-bit word"
            )
        if id(arg) not in addresses:
            for other, _ in buffers:
                if np.shares_memory(arg, other):
                    raise LaunchError(
                        f"{what} overlaps another argument: give the same array twice, or a copy"
                    )
            addresses[id(arg)] = memory.add(flat_bytes(arg))
            buffers.append((arg, len(memory.buffers) - 1))
        values.append(addresses[id(arg)])
    return values, buffers


def _scalar(what: str, parameter: Parameter, arg: int | float | bytes) -> int | float:
    dtype = DTYPES[parameter.type]
    if dtype.kind == "f":
        if isinstance(arg, int | float | np.integer | np.floating):
            return float(arg)
    elif isinstance(arg, int | np.integer):
        bits = 8 * dtype.itemsize
        if not -(1 << (bits - 1)) <= arg < 1 << bits:
            raise LaunchError(f"{what}: {arg} does not fit into {bits} bits")
        wrapped = int(arg) & ((1 << bits) - 1)
        return wrapped - (1 << bits) if dtype.kind == "i" and wrapped >> (bits - 1) else wrapped
    raise LaunchError(f"{what} cannot be {type(arg).__name__} {arg!r}")


def _copy_back(array: np.ndarray, contents: np.ndarray) -> None:
    """Put a buffer's bytes back into the array it came from, where they changed."""
    if np.array_equal(flat_bytes(array), contents):
        return
    if not array.flags.writeable:
        raise LaunchError(f"the kernel wrote to an array of shape {array.shape} that is read-only")
    array[...] = contents.view(array.dtype).reshape(array.shape)


def _blocks_at_once(program: Program, geometry: Geometry, shared_size: int) -> int:
    """How many blocks make a group: a good number of warps, within the memory limit."""
    register_bytes = sum(DTYPES[r.type].itemsize for r in program.kernel.registers)
    # Shared memory twice: its bytes and the map of initialised ones, each up to the next power of two.
    each = geometry.warps * LANES * (register_bytes + 2 * program.local_size) + 4 * shared_size + 1
    at_once = min(geometry.blocks, GROUP_WARPS // geometry.warps, GROUP_BYTES // each, MAX_BLOCKS)
    return max(1, at_once)


def _counters(program: Program, counts: Counts) -> dict[str, int]:
    """Sum up the public counters from how often each instruction was issued."""
    counters = {"warp_instructions": counts.issued, "tensor_instructions": 0, **counts.traffic}
    for definition, warps in zip(program.definitions, counts.warps_at, strict=False):
        if warps:
            name = f"instructions.{definition.opcode}"
            counters[name] = counters.get(name, 0) + warps
            if definition.tensor:
                counters["tensor_instructions"] += warps
    return counters
