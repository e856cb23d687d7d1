"""Calls functions in a Hexagon ELF that runs under qemu-hexagon, the user-mode emulator.

The ELF is a function server (kernels/hexagon/runtime/server.c) which speaks the protocol described in
docs/hexagon.md on its standard input and output. One process serves many calls.
"""

import contextlib
import os
import re
import resource
import selectors
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, NoReturn, Self, TypeVar

import numpy as np
import numpy.typing

from simulators import child_process

PROGRAM = "qemu-hexagon"
INSTALL = "apt-get install qemu-user"
OLDEST, OLDEST_RUNS = "7.2", 67  # the oldest version that kernels have been run by, and what it goes up to
PROTOCOL_MAGIC = 0x56585648
PROTOCOL_VERSION = 2
VERSION_SECONDS = 10.0
MAX_TENSORS = 16
MAX_DIMENSIONS = 8
MAX_RESIDENTS = 8192

_GUARD = 128  # bytes the server adds to each tensor
_CALL, _UPLOAD, _DOWNLOAD, _RELEASE, _TASK_ORDER = 1, 2, 3, 4, 5  # requests
_SENT, _RETURNED, _RESIDENT = 1, 2, 4  # tensor flags
_STATUS = {1: "function-error", 2: "out-of-bounds"}
_TYPE_CODES = {"i": 0, "u": 1, "f": 2}  # NumPy's kind -> DLPack's type code
_PIECE = 1 << 20
_Result = TypeVar("_Result")


class CorruptElf(ValueError):  # noqa: N818
    """The bytes are no ELF that qemu-hexagon could start; they were not run."""


class FunctionError(RuntimeError):
    """The function ran and returned an error, or wrote outside its tensors; the server goes on.

    `kind` is "function-error" or "out-of-bounds", `message` the guest's text.
    """

    def __init__(self, function: str, kind: str, message: str) -> None:
        super().__init__(f"{function}: {kind}: {message}")
        self.function, self.kind, self.message = function, kind, message


class ProtocolError(RuntimeError):
    """The guest is no function server, or one that speaks another version of the protocol."""


class ServerCrash(RuntimeError):  # noqa: N818
    """The guest ended by itself. `returncode` is negative for a signal; `stderr` its last output."""

    def __init__(self, doing: str, returncode: int | None, stderr: str) -> None:
        if returncode is not None and returncode < 0:
            how = f"was ended by {signal.Signals(-returncode).name}"
        else:
            how = f"ended with status {returncode}"
        super().__init__(f"{PROGRAM} {how} while {doing}{': ' + stderr if stderr else ''}")
        self.doing, self.returncode, self.stderr = doing, returncode, stderr


class ServerTimeout(TimeoutError):  # noqa: N818
    """The guest did not answer in time and was killed. `stderr` is its last output."""

    def __init__(self, doing: str, seconds: float, stderr: str) -> None:
        super().__init__(
            f"{PROGRAM} did not answer within {seconds:g} s while {doing}{': ' + stderr if stderr else ''}"
        )
        self.doing, self.seconds, self.stderr = doing, seconds, stderr


def available() -> str | None:
    """Why qemu-hexagon cannot be used, with the command that installs it; None where it can."""
    if shutil.which(PROGRAM) is None:
        return f"{PROGRAM} not found: {INSTALL}"
    return None


def version() -> str:
    """Say which qemu-hexagon is installed; of one that does not say it, that it is unknown."""
    try:
        said = subprocess.run(
            [PROGRAM, "--version"],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=VERSION_SECONDS,
        ).stdout
    except subprocess.TimeoutExpired:
        said = ""
    first = said.splitlines()[:1]
    return first[0].removeprefix(f"{PROGRAM} version ") if first else "of unknown version"


def why_not_running(probe: tuple[int, bytes]) -> str | None:
    """Why qemu-hexagon cannot be used for an architecture, with the command that installs one that can be.

    probe: the architecture's number, and a tiny ELF as `newest_architecture` takes it. None where it runs.
    """
    if reason := available():
        return reason
    number, _ = probe
    if newest_architecture(dict([probe])) == number:
        return None
    older = f", as {OLDEST} does" if number <= OLDEST_RUNS else ""
    return f"{PROGRAM} {version()} does not run Hexagon v{number}{older}: {INSTALL}"


def check_elf(elf: bytes) -> None:
    """Raise CorruptElf unless the bytes are a complete static 32-bit Hexagon executable.

    Every segment and section has to lie within the file and the entry point in an executable segment.
    """

    def field(form: str, at: int) -> int:
        return int(struct.unpack_from("<" + form, elf, at)[0])

    if len(elf) < 52 or elf[:4] != b"\x7fELF":
        raise CorruptElf(f"not an ELF file: {len(elf)} bytes that begin with {elf[:4]!r}")
    if elf[4:7] != b"\x01\x01\x01":
        raise CorruptElf("not a 32-bit little-endian ELF")
    kind, machine = field("H", 16), field("H", 18)
    if machine != 164:
        raise CorruptElf(f"an ELF for machine {machine}; Hexagon is 164")
    if kind != 2:
        raise CorruptElf(f"an ELF of type {kind}; an executable is 2")
    entry, segment_table, section_table = field("I", 24), field("I", 28), field("I", 32)
    segment_bytes, segment_count, section_bytes, section_count = (field("H", at) for at in (42, 44, 46, 48))
    for what, table, size, count, least in (
        ("program", segment_table, segment_bytes, segment_count, 32),
        ("section", section_table, section_bytes, section_count, 40),
    ):
        if count and (size < least or table + size * count > len(elf)):
            raise CorruptElf(f"the {what} headers lead outside the file of {len(elf)} bytes: cut short?")
    starts = False
    for header in range(segment_table, segment_table + segment_bytes * segment_count, segment_bytes):
        segment_kind, offset, address, _, size, _, flags = struct.unpack_from("<7I", elf, header)
        if segment_kind == 1:  # PT_LOAD
            if offset + size > len(elf):
                raise CorruptElf(f"the segment at {address:#x} leads outside the file: cut short?")
            starts |= bool(flags & 1) and address <= entry < address + size
    if not starts:
        raise CorruptElf(f"the entry point {entry:#x} is in no executable segment")


def symbol_at(elf: bytes, address: int) -> str | None:
    """Name the function that an address of an executable lies in, as `name+0x10`; None where there is none.

    The symbol table names the functions that are visible; code of others counts to the one before it.
    """
    table, entry, count = *struct.unpack_from("<I", elf, 32), *struct.unpack_from("<2H", elf, 46)
    sections = [struct.unpack_from("<10I", elf, table + entry * index) for index in range(count)]
    best = None
    for _, kind, _, _, begin, size, link, *_ in sections:
        if kind != 2:  # SHT_SYMTAB
            continue
        names = sections[link][4]
        for at in range(begin, begin + size, 16):
            name, value, _, info = struct.unpack_from("<3IB", elf, at)
            if info & 15 == 2 and value <= address and (best is None or value > best[0]):  # STT_FUNC
                best = value, elf[names + name : elf.index(b"\0", names + name)].decode()
    return f"{best[1]}+{address - best[0]:#x}" if best else None


def _write_elf(directory: str, elf: bytes) -> Path:
    path = Path(directory) / "guest.elf"
    path.write_bytes(elf)
    path.chmod(0o700)
    return path


def newest_architecture(probes: Mapping[int, bytes], *, timeout: float = 10.0) -> int | None:
    """Find the newest Hexagon architecture that this qemu-hexagon executes, found out by running.

    probes: for each version number a tiny ELF that executes an HVX instruction and exits with that number
    as its status (`kernels.hexagon.architectures.probe_elf`). None where it executes none of them, or is
    missing.
    """
    if available() is not None:
        return None
    for version in sorted(probes, reverse=True):
        with tempfile.TemporaryDirectory(prefix="bitexact-") as directory:
            nothing = subprocess.DEVNULL
            # Ctrl-C may come before the process is ours: then it ends with us.
            probe = child_process.start(
                [PROGRAM, str(_write_elf(directory, probes[version]))],
                stdin=nothing,
                stdout=nothing,
                stderr=nothing,
            )
            try:
                returned = probe.wait(timeout)
            except subprocess.TimeoutExpired:
                continue
            finally:
                probe.kill()
                probe.wait()
        if returned == version:
            return version
    return None


@dataclass(frozen=True)
class Resident:
    """A tensor that stays in the guest between calls; made by `FunctionServer.upload` and `allocate`."""

    handle: int
    shape: tuple[int, ...]
    dtype: np.dtype
    owner: object

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class FunctionServer:
    """A qemu-hexagon process that holds compiled functions and executes calls of them.

    Use as a context manager, or call `close`. `timeout` is the number of seconds that the start and each
    call may take; past it the process is killed. After ServerCrash or ServerTimeout the server is closed.
    One thread at a time.

    `without_vrmpy` is the same ELF with a nop in place of each vrmpy
    (`kernels.hexagon.machine_code.without_vrmpy`). With it, calls also report how many vrmpy were executed:
    QEMU counts HVX instructions but not which, so the twin executes the first call of each function with
    the same operands, and the difference of the two counts is the number of vrmpy.

    Raises CorruptElf before anything is run, FileNotFoundError where qemu-hexagon is missing, ServerCrash
    where it refuses the ELF, ProtocolError where the ELF is no function server of this version.
    """

    functions: tuple[str, ...]

    def __init__(self, elf: bytes, *, without_vrmpy: bytes | None = None, timeout: float = 120.0) -> None:
        check_elf(elf)
        if without_vrmpy is not None:
            check_elf(without_vrmpy)
        reason = available()
        if reason is not None:
            raise FileNotFoundError(reason)
        self._timeout = timeout
        self._elf = elf
        self._twin_elf = without_vrmpy
        self._resident_count = self._resident_bytes = 0
        self._residents = object()  # stands for all handles that are valid
        self._twin: FunctionServer | None = None
        self._executed_vrmpy: dict[tuple[object, ...], int] = {}
        self._directory = tempfile.TemporaryDirectory(prefix="bitexact-", ignore_cleanup_errors=True)
        self._stderr: IO[bytes] = (Path(self._directory.name) / "stderr").open("w+b")
        self._process = child_process.start(
            [PROGRAM, str(_write_elf(self._directory.name, elf))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
            cwd=self._directory.name,
        )
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # QEMU would write the guest's memory to a file when the guest crashes.
            resource.prlimit(self._process.pid, resource.RLIMIT_CORE, (0, 0))
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        os.set_blocking(self._to.fileno(), False)
        os.set_blocking(self._from.fileno(), False)
        try:
            self._greet()
        except BaseException:
            self.close()
            raise

    def _greet(self) -> None:
        deadline = time.monotonic() + self._timeout
        doing = "starting"
        magic, version, self._arena, count = struct.unpack("<4I", self._receive(16, deadline, doing))
        if (magic, version) != (PROTOCOL_MAGIC, PROTOCOL_VERSION):
            raise ProtocolError(
                f"the guest says {magic:#010x} version {version}; "
                f"this client speaks {PROTOCOL_MAGIC:#010x} version {PROTOCOL_VERSION}"
            )
        names = []
        for _ in range(count):
            (length,) = struct.unpack("<I", self._receive(4, deadline, doing))
            names.append(bytes(self._receive(length, deadline, doing)).decode())
        self.functions = tuple(names)

    def call(self, name: str, inputs: Sequence[np.ndarray], output: np.ndarray) -> dict[str, int]:
        """Execute a function on `inputs`, in the order of its parameters, and fill `output`, its last one.

        Arrays are C-contiguous, of 1 to 8 dimensions. Before the call the guest's output and workspaces hold
        0xA5 bytes, so what a function leaves unwritten shows. Returns the counters of this call alone, from
        QEMU's control registers: packets, instructions, hvx_instructions, each mod 2^32; they include the
        checks of its arguments that TVM compiles into a function. With a twin, also `vrmpy` (see the class).

        Raises ValueError for a call that cannot be sent, FunctionError where the function returned an error
        or wrote outside a tensor (the server stays usable), ServerCrash and ServerTimeout.
        """
        self._check_function(name)
        arrays = [*inputs, output]
        self._check_tensors(name, arrays)
        if not output.flags.writeable:
            raise ValueError(f"{name}: the output array is read-only")

        counters = self._guarded(lambda: self._exchange(name, arrays))
        if self._twin_elf is not None:
            counters["vrmpy"] = self._count_vrmpy(
                name,
                arrays,
                counters["hvx_instructions"],
                lambda twin: twin.call(name, inputs, np.empty_like(output)),
            )
        return counters

    # ---- tensors that stay ----

    def upload(self, array: np.ndarray) -> Resident:
        """Put a tensor into the guest's memory, where it stays until `release`.

        Raises ValueError for what cannot be passed or has no room, ServerCrash and ServerTimeout.
        """
        self._check_tensors("upload", [array])
        return self._make_resident(array.shape, array.dtype, array)

    def allocate(self, shape: Sequence[int], dtype: np.typing.DTypeLike) -> Resident:
        """Make room for a result in the guest's memory; before each call that writes it, it is poisoned."""
        if len(shape) == 0 or min(shape) < 1:
            raise ValueError(f"allocate: a shape has dimensions of at least 1, not {tuple(shape)}")
        self._check_tensors("allocate", [np.empty((1,) * len(shape), dtype)])
        return self._make_resident(tuple(int(extent) for extent in shape), np.dtype(dtype), None)

    def _make_resident(self, shape: tuple[int, ...], dtype: np.dtype, array: np.ndarray | None) -> Resident:
        self._check_open()
        made = Resident(self._resident_count, shape, dtype, self._residents)
        size = -(-made.nbytes // _GUARD) * _GUARD + 2 * _GUARD
        if self._resident_count == MAX_RESIDENTS or self._resident_bytes + size + 2 * _GUARD > self._arena:
            raise ValueError(
                f"no room for {made.nbytes} bytes beside {self._resident_count} resident tensors of "
                f"{self._resident_bytes} bytes; the guest holds {MAX_RESIDENTS} and {self._arena} bytes"
            )

        def exchange() -> None:
            deadline = time.monotonic() + self._timeout
            request = struct.pack("<3I", _UPLOAD, made.nbytes, array is not None)
            pieces: list[bytes | memoryview] = [request] if array is None else [request, _bytes_of(array)]
            self._send(pieces, deadline, "uploading")
            (handle,) = struct.unpack("<I", self._receive(4, deadline, "uploading"))
            if handle != made.handle:
                raise ProtocolError(f"the guest made handle {handle} instead of {made.handle}")

        self._guarded(exchange)
        self._resident_count += 1
        self._resident_bytes += size
        return made

    def download(self, resident: Resident) -> np.ndarray:
        """Copy a resident tensor out of the guest."""
        self._check_resident("download", resident)
        array = np.empty(resident.shape, resident.dtype)

        def exchange() -> None:
            deadline = time.monotonic() + self._timeout
            self._send([struct.pack("<3I", _DOWNLOAD, resident.handle, 0)], deadline, "downloading")
            self._receive_into(_bytes_of(array), deadline, "downloading")

        self._guarded(exchange)
        return array

    def release(self) -> None:
        """Give up all resident tensors; their handles are refused from now on."""
        self._check_open()
        deadline = time.monotonic() + self._timeout
        self._guarded(lambda: self._send([struct.pack("<3I", _RELEASE, 0, 0)], deadline, "releasing"))
        self._resident_count = self._resident_bytes = 0
        self._residents = object()

    def call_resident(self, name: str, tensors: Sequence[Resident]) -> dict[str, int]:
        """Execute a function on resident tensors, in the order of its parameters, the result last.

        Nothing but the counters is transferred. They are those of `call`; the twin that counts vrmpy gets
        tensors of the same shapes with any content. Raises as `call` does.
        """
        self._check_function(name)
        for tensor in tensors:
            self._check_resident(name, tensor)
        if not 1 <= len(tensors) <= MAX_TENSORS:
            raise ValueError(f"{name}: {len(tensors)} tensors; a call takes 1 to {MAX_TENSORS}")
        header = bytearray(struct.pack("<3I", _CALL, self.functions.index(name), len(tensors)))
        for index, tensor in enumerate(tensors):
            flags = _RESIDENT | (_RETURNED if index == len(tensors) - 1 else 0)
            header += _tensor_header(tensor, flags, tensor.handle)
        counters = self._guarded(lambda: self._execute(name, [bytes(header)], None))
        if self._twin_elf is not None:
            counters["vrmpy"] = self._count_vrmpy(
                name,
                tensors,
                counters["hvx_instructions"],
                lambda twin: twin._call_on_anything(name, tensors),
            )
        return counters

    def _call_on_anything(self, name: str, tensors: Sequence[Resident]) -> dict[str, int]:
        """Execute a function on tensors that are neither sent nor returned."""
        header = bytearray(struct.pack("<3I", _CALL, self.functions.index(name), len(tensors)))
        for tensor in tensors:
            header += _tensor_header(tensor, 0, tensor.nbytes)
        return self._guarded(lambda: self._execute(name, [bytes(header)], None))

    def shuffle_tasks(self, seed: int) -> None:
        """Run the tasks of parallel loops in an order drawn from this seed; 0 is the last task first."""
        self._check_open()
        if not 0 <= seed < 2**32:
            raise ValueError(f"a seed is 0 to 2^32 - 1, not {seed}")
        deadline = time.monotonic() + self._timeout
        self._guarded(lambda: self._send([struct.pack("<3I", _TASK_ORDER, seed, 0)], deadline, "seeding"))

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(f"the server of {', '.join(self.functions)} is closed")

    def _check_function(self, name: str) -> None:
        self._check_open()
        if name not in self.functions:
            raise ValueError(f"no function {name!r} in this ELF; there are {', '.join(self.functions)}")

    def _check_resident(self, name: str, tensor: Resident) -> None:
        self._check_open()
        if tensor.owner is not self._residents:
            raise ValueError(f"{name}: a tensor of shape {tensor.shape} was released, or is another server's")

    def _guarded(self, exchange: Callable[[], _Result]) -> _Result:
        try:
            return exchange()
        except FunctionError:
            raise
        except BaseException:
            self.close()  # In the middle of a message there is no way to go on.
            raise

    def _count_vrmpy(
        self,
        name: str,
        tensors: Sequence[np.ndarray | Resident],
        hvx_instructions: int,
        call: "Callable[[FunctionServer], dict[str, int]]",
    ) -> int:
        key = (name, *(tensor.shape for tensor in tensors))
        if key not in self._executed_vrmpy:
            if self._twin is None:
                assert self._twin_elf is not None
                self._twin = FunctionServer(self._twin_elf, timeout=self._timeout)
            rest = call(self._twin)["hvx_instructions"]
            self._executed_vrmpy[key] = (hvx_instructions - rest) % 2**32
        return self._executed_vrmpy[key]

    def _exchange(self, name: str, arrays: Sequence[np.ndarray]) -> dict[str, int]:
        *inputs, output = arrays
        header = bytearray(struct.pack("<3I", _CALL, self.functions.index(name), len(arrays)))
        for index, array in enumerate(arrays):
            header += _tensor_header(array, _RETURNED if index == len(inputs) else _SENT, array.nbytes)
        return self._execute(name, [bytes(header), *(_bytes_of(array) for array in inputs)], output)

    def _execute(
        self, name: str, pieces: Sequence[bytes | memoryview], output: np.ndarray | None
    ) -> dict[str, int]:
        deadline = time.monotonic() + self._timeout
        doing = f"executing {name}"
        self._send(pieces, deadline, doing)
        status, packets, instructions, hvx, text_length = struct.unpack(
            "<5I", self._receive(20, deadline, doing)
        )
        text = bytes(self._receive(text_length, deadline, doing)).decode(errors="replace")
        if status != 0:
            raise FunctionError(name, _STATUS.get(status, f"status {status}"), text)
        if output is not None:
            self._receive_into(_bytes_of(output), deadline, doing)
        return {"packets": packets, "instructions": instructions, "hvx_instructions": hvx}

    def _check_tensors(self, name: str, arrays: Sequence[np.ndarray]) -> None:
        if len(arrays) > MAX_TENSORS:
            raise ValueError(f"{name}: {len(arrays)} tensors; a call takes at most {MAX_TENSORS}")
        for index, array in enumerate(arrays):
            if array.dtype.kind not in _TYPE_CODES or not array.dtype.isnative:
                raise ValueError(
                    f"{name}: tensor {index} is {array.dtype}; integers and floats can be passed"
                )
            if not 1 <= array.ndim <= MAX_DIMENSIONS or array.size == 0 or not array.flags.c_contiguous:
                raise ValueError(
                    f"{name}: tensor {index} of shape {array.shape} has to be C-contiguous, "
                    f"not empty, with 1 to {MAX_DIMENSIONS} dimensions"
                )
        needed = sum(-(-array.nbytes // _GUARD) * _GUARD + _GUARD for array in arrays) + _GUARD
        if needed > self._arena - self._resident_bytes:
            beside = f" beside {self._resident_bytes} of resident tensors" if self._resident_bytes else ""
            raise ValueError(f"{name}: its tensors need {needed} bytes of the guest's {self._arena}{beside}")

    @property
    def closed(self) -> bool:
        """Whether the process has been ended."""
        return self._to.closed

    def close(self) -> None:
        """End the process and remove its files. May be called again."""
        if self._twin is not None:
            self._twin.close()
        for pipe in (self._to, self._from):
            with contextlib.suppress(OSError):
                pipe.close()
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()
        self._stderr.close()
        self._directory.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_from") and not self.closed:
            self.close()

    # ---- the two pipes ----

    def _wait(self, pipe: IO[bytes], event: int, deadline: float, doing: str) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, event)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                # The guest answers with the place it is at, and ends.
                self._process.send_signal(signal.SIGALRM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout=2.0)
                stderr = self._last_stderr()
                self.close()
                raise ServerTimeout(doing, self._timeout, stderr)

    def _send(self, pieces: Sequence[bytes | memoryview], deadline: float, doing: str) -> None:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                self._wait(self._to, selectors.EVENT_WRITE, deadline, doing)
                try:
                    view = view[os.write(self._to.fileno(), view[:_PIECE]) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    self._raise_crash(doing)

    def _receive(self, count: int, deadline: float, doing: str) -> bytearray:
        buffer = bytearray(count)
        self._receive_into(memoryview(buffer), deadline, doing)
        return buffer

    def _receive_into(self, view: memoryview, deadline: float, doing: str) -> None:
        while view:
            self._wait(self._from, selectors.EVENT_READ, deadline, doing)
            try:
                got = os.readv(self._from.fileno(), [view[:_PIECE]])
            except BlockingIOError:
                continue
            if got == 0:
                self._raise_crash(doing)
            view = view[got:]

    def _raise_crash(self, doing: str) -> NoReturn:
        try:
            returncode: int | None = self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            returncode = None  # It closed its pipes and lives on; close() ends it.
        stderr = self._last_stderr()
        self.close()
        raise ServerCrash(doing, returncode, stderr)

    def _last_stderr(self) -> str:
        self._stderr.flush()
        content = (Path(self._directory.name) / "stderr").read_bytes()
        return _with_function_names(content[-2000:].decode(errors="replace").strip(), self._elf)


def _with_function_names(text: str, elf: bytes) -> str:
    """Add to each program counter the function of the ELF that it lies in."""

    def named(found: re.Match[str]) -> str:
        symbol = symbol_at(elf, int(found[1], 16))
        return f"{found[0]} in {symbol}" if symbol else found[0]

    return re.sub(r"program counter (0x[0-9a-f]{8})", named, text)


def _tensor_header(tensor: np.ndarray | Resident, flags: int, size: int) -> bytes:
    type_word = _TYPE_CODES[tensor.dtype.kind] | tensor.dtype.itemsize * 8 << 8
    return struct.pack(f"<4I{len(tensor.shape)}q", type_word, flags, size, len(tensor.shape), *tensor.shape)


def _bytes_of(array: np.ndarray) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
