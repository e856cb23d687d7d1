"""Where the buffers of a PrimFunc lie: in DRAM, or at places of the three memories, once or several times."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

from tvm import tirx

from kernels.vta.compiler.statements import SRAM, UncompilableError, scope_of
from simulators.vta.config import Config

_MEMORIES = {"local.inp": "INP", "local.wgt": "WGT", "local.acc": "ACC", "local.out": "ACC"}
_DTYPES = {"local.inp": "int8", "local.wgt": "int8", "local.acc": "int32", "local.out": "int8"}


@dataclass
class _Place:
    """Copies of a buffer, one behind the other, used in turn; the current one has the indices `within`."""

    first: int
    size: int
    copies: int
    within: tuple[range, ...] = ()
    turn: int = -1


class Memories:
    """Places in the memories of one configuration, given and taken back as a stack.

    sizes: the most elements that each buffer needs at any time, as `size_of` counts them.
    """

    def __init__(self, config: Config, sizes: Mapping[tirx.Buffer, int]) -> None:
        self._config = config
        self._sizes = sizes
        self._used = dict.fromkeys(("INP", "WGT", "ACC"), 0)
        self._depth = {"INP": config.inp_depth, "WGT": config.wgt_depth, "ACC": config.acc_depth}
        self._places: dict[tirx.Buffer, _Place] = {}
        self._aliases: dict[tirx.Buffer, tirx.Buffer] = {}

    def alias(self, buffer: tirx.Buffer, other: tirx.Buffer) -> None:
        """Let a buffer lie where another one does."""
        self._aliases[buffer] = other

    def _root(self, buffer: tirx.Buffer) -> tirx.Buffer:
        while buffer in self._aliases:
            buffer = self._aliases[buffer]
        return buffer

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Give back at the end what was allocated within."""
        used = dict(self._used)
        yield
        self._used = used

    def allocate(self, buffer: tirx.Buffer, within: tuple[range, ...], copies: int) -> None:
        """Give a buffer its place, or its next one where it has several, for these indices."""
        if buffer in self._aliases:
            return
        memory, size = _MEMORIES[scope_of(buffer)], self._sizes[buffer]
        place = self._places.setdefault(buffer, _Place(self._used[memory], size, copies))
        end = place.first + size * copies
        if end > self._depth[memory]:
            times = f"{copies} times {size}" if copies > 1 else f"{size}"
            beside = f" beside {place.first} of others" if place.first else ""
            raise ValueError(
                f"{memory}: {buffer.name} takes {times} elements{beside}, and {self._depth[memory]} fit"
            )
        self._used[memory] = end
        place.turn = (place.turn + 1) % copies
        place.within = within

    def first(self, buffer: tirx.Buffer) -> int:
        """Return the element at which a buffer lies now."""
        place = self._places[self._root(buffer)]
        return place.first + place.turn * place.size

    def within(self, buffer: tirx.Buffer) -> tuple[range, ...]:
        """Return the indices that a buffer has now."""
        return self._places[self._root(buffer)].within


def numbers_of(buffer: tirx.Buffer, config: Config) -> int:
    """Return the numbers in one element of the memory that a buffer lies in."""
    return config.block * (config.block if scope_of(buffer) == "local.wgt" else config.batch)


def size_of(buffer: tirx.Buffer, within: tuple[range, ...], config: Config) -> int:
    """Return the elements that the indices of a buffer take; UncompilableError where it is in no memory."""
    scope = scope_of(buffer)
    if scope not in SRAM:
        raise UncompilableError(f"{buffer.name} is in {scope}; VTA has {', '.join(SRAM)}")
    if str(buffer.dtype) != _DTYPES[scope]:
        raise UncompilableError(f"{buffer.name} is {buffer.dtype}, and {scope} holds {_DTYPES[scope]}")
    return -(-prod(len(each) for each in within) // numbers_of(buffer, config))
