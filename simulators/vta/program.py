"""The file of a VTA program: instructions, micro-ops, and where each tensor lies in DRAM.

Whoever runs one, a machine or a board's driver, puts the micro-ops and the tensors at their addresses, runs
the instructions and reads the outputs. The file is:

    bytes 0-7    b"VTAPROG1"
    bytes 8-11   length of the header, little-endian
    bytes 12-15  CRC-32 of all that follows
    header       JSON: config, buffers, counters, dram_nbytes, number of instructions and micro-ops
    then         the instructions, 16 bytes each, and the micro-ops, 4 bytes each, as the device reads them
    and perhaps  the DRAM before the run, dram_nbytes: then there is nothing else to know
"""

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol

import numpy as np

from simulators.report import Report
from simulators.vta.config import DRAM_PAGE_BYTES, UOP_BYTES, Config
from simulators.vta.isa import Load, Store, decode, encode, words_of
from simulators.vta.memory import element_bytes

MAGIC = b"VTAPROG1"
ROLES = ("input", "weight", "bias", "uop", "output")
# DRAM that nobody has written holds this byte, so that what a program forgets cannot pass for a zero.
POISON = 0xA5
_HEAD = struct.Struct("<8sII")


class Runner(Protocol):
    """What executes instructions on a DRAM: the machine, or a driver."""

    config: Config

    def run(self, insns: np.ndarray, dram: np.ndarray) -> Report:
        """Execute insns uint64[n, 2] on dram uint8, in place."""


@dataclass(frozen=True)
class Buffer:
    """One tensor in DRAM. role: one of ROLES; address in bytes; dtype as NumPy names it."""

    name: str
    role: str
    address: int
    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"{self.name} has the role {self.role!r}; roles are {', '.join(ROLES)}")
        if self.address < DRAM_PAGE_BYTES:
            raise ValueError(f"{self.name} lies at {self.address:#x}, in the first page of DRAM")

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, eq=False)
class Program:
    """A program for one configuration.

    insns uint64[n, 2]; uops uint32[m], to lie at the buffer of role "uop"; dram_nbytes is the size of the
    DRAM image; counters are those that a run will show, by the machine's names. dram uint8[dram_nbytes] is
    what the DRAM holds before the run, where `with_image` has laid it out.
    """

    config: Config
    insns: np.ndarray
    uops: np.ndarray
    buffers: tuple[Buffer, ...]
    dram_nbytes: int
    counters: dict[str, int] = field(default_factory=dict)
    dram: np.ndarray | None = None

    def __post_init__(self) -> None:
        for each in self.buffers:
            if each.address + each.nbytes > self.dram_nbytes:
                raise ValueError(f"{each.name} ends behind the {self.dram_nbytes} bytes of DRAM")
            if each.role == "uop" and each.nbytes != UOP_BYTES * len(self.uops):
                raise ValueError(
                    f"{each.name} holds {each.nbytes} bytes, and there are {len(self.uops)} micro-ops"
                )
        if self.dram is not None and (self.dram.dtype, self.dram.shape) != (np.uint8, (self.dram_nbytes,)):
            found = f"{self.dram.dtype}{list(self.dram.shape)}"
            raise ValueError(f"the DRAM image is {found}, not uint8[{self.dram_nbytes}]")

    @property
    def arguments(self) -> tuple[Buffer, ...]:
        """The buffers that a caller fills, in the order of the layer's arguments."""
        return tuple(each for each in self.buffers if each.role in ("input", "weight", "bias"))

    @property
    def outputs(self) -> tuple[Buffer, ...]:
        """The buffers that hold results."""
        return tuple(each for each in self.buffers if each.role == "output")

    def with_image(self, arrays: Mapping[str, np.ndarray]) -> "Program":
        """Return the program with its DRAM laid out, which its file then holds; ValueError as `image`."""
        return replace(self, dram=self.image(arrays))

    def image(self, arrays: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """Lay out the DRAM before a run, uint8[dram_nbytes], from arrays, or else copy the program's own.

        ValueError names an array that does not fit.
        """
        if arrays is None:
            if self.dram is None:
                raise ValueError(
                    "the program has no DRAM image: give it one by with_image, or give the arrays"
                )
            return self.dram.copy()
        names = [each.name for each in self.arguments]
        if sorted(arrays) != sorted(names):
            raise ValueError(f"the program's arguments are {names}, not {sorted(arrays)}")
        dram = np.full(self.dram_nbytes, POISON, np.uint8)
        for each in self.arguments:
            array = np.asarray(arrays[each.name])
            if array.shape != each.shape or array.dtype != np.dtype(each.dtype):
                raise ValueError(
                    f"{each.name} is {each.dtype}{list(each.shape)}, not {array.dtype}{list(array.shape)}"
                )
            _place(dram, each, array)
        for each in self.buffers:
            if each.role == "uop":
                _place(dram, each, self.uops)
        return dram

    def insns_at(self, base: int) -> np.ndarray:
        """Return the instructions for a DRAM image that lies at another address than 0, uint64[n, 2].

        base: bytes, of whole pages. ValueError where an address is beyond the field of an instruction.
        """
        if base < 0 or base % DRAM_PAGE_BYTES:
            raise ValueError(f"DRAM at {base:#x}: whole pages of {DRAM_PAGE_BYTES} bytes are possible")
        moved = [
            replace(each, dram_base=each.dram_base + base // element_bytes(each.memory_type, self.config))
            if isinstance(each, Load | Store)
            else each
            for each in decode(self.insns, self.config)
        ]
        return encode(moved, self.config)

    def outputs_in(self, dram: np.ndarray) -> dict[str, np.ndarray]:
        """Read the outputs by name from DRAM after a run."""
        return {each.name: _read(dram, each) for each in self.outputs}

    def run(
        self, machine: Runner, arrays: Mapping[str, np.ndarray] | None = None
    ) -> tuple[dict[str, np.ndarray], Report]:
        """Run on a machine of the program's configuration; return the outputs by name, and the report.

        Without arrays the program's own DRAM image is taken.

        Where the report has an error the outputs are what was in DRAM when the machine stopped. ValueError
        where the machine is another or an array is missing, unknown, or of another shape or dtype.
        """
        if machine.config != self.config:
            raise ValueError(f"a program for {self.config.bitstream} on a machine {machine.config.bitstream}")
        dram = self.image(arrays)
        report = machine.run(self.insns, dram)
        return self.outputs_in(dram), report

    def to_bytes(self) -> bytes:
        """Write the program as one file."""
        header = {
            "config": asdict(self.config),
            "buffers": [asdict(each) for each in self.buffers],
            "counters": self.counters,
            "dram_nbytes": self.dram_nbytes,
            "instructions": len(self.insns),
            "uops": len(self.uops),
            "image": self.dram is not None,
        }
        text = json.dumps(header, sort_keys=True).encode()
        body = text + self.insns.astype("<u8").tobytes() + self.uops.astype("<u4").tobytes()
        if self.dram is not None:
            body += self.dram.tobytes()
        return _HEAD.pack(MAGIC, len(text), zlib.crc32(body)) + body

    @classmethod
    def from_bytes(cls, blob: bytes) -> "Program":
        """Read the program in a file's bytes; ValueError says why they are none."""
        if len(blob) < _HEAD.size or blob[: len(MAGIC)] != MAGIC:
            raise ValueError(f"not a VTA program: it does not begin with {MAGIC.decode()}")
        _, length, checksum = _HEAD.unpack_from(blob)
        body = blob[_HEAD.size :]
        if zlib.crc32(body) != checksum:
            raise ValueError("not a VTA program: its checksum is wrong, the file is damaged or cut short")
        try:
            header = json.loads(body[:length])
            split = length + 16 * header["instructions"]
            image = split + 4 * header["uops"]
            # Files of before there were images have no word on it.
            with_image = header.get("image", False)
            if len(body) != image + (header["dram_nbytes"] if with_image else 0):
                raise ValueError(f"{len(body) - length} bytes of instructions, micro-ops and DRAM")
            buffers = tuple(Buffer(**{**each, "shape": tuple(each["shape"])}) for each in header["buffers"])
            program = cls(
                config=Config(**header["config"]),
                insns=words_of(body[length:split]),
                uops=np.frombuffer(body[split:image], "<u4").astype(np.uint32),
                buffers=buffers,
                dram_nbytes=header["dram_nbytes"],
                counters=header["counters"],
                dram=np.frombuffer(body[image:], np.uint8).copy() if with_image else None,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a VTA program, by its header: {error!r}") from None
        return program


def load(blob: bytes) -> Program:
    """Read the program in a file's bytes; ValueError says why they are none."""
    return Program.from_bytes(blob)


def _place(dram: np.ndarray, buffer: Buffer, array: np.ndarray) -> None:
    data = np.ascontiguousarray(array, dtype=np.dtype(buffer.dtype).newbyteorder("<"))
    dram[buffer.address : buffer.address + buffer.nbytes] = data.reshape(-1).view(np.uint8)


def _read(dram: np.ndarray, buffer: Buffer) -> np.ndarray:
    data = dram[buffer.address : buffer.address + buffer.nbytes].copy()
    dtype = np.dtype(buffer.dtype)
    return data.view(dtype.newbyteorder("<")).astype(dtype).reshape(buffer.shape)
