"""Where an access reads or writes, in DRAM or in a memory: its address in numbers, and in elements."""

from collections.abc import Mapping

from tvm import tirx

from kernels.vta.compiler.affine import Affine, Box, Variable, constant
from kernels.vta.compiler.memories import Memories, numbers_of
from kernels.vta.compiler.statements import (
    Access,
    Statement,
    address,
    buffer_of,
    elements,
    indices_of,
    lanes,
    reads_of,
    scope_of,
)
from simulators.vta.config import Config
from simulators.vta.program import Buffer


class Places:
    """The places of the buffers of one function, as they are now: tensors in DRAM, the others in memories."""

    def __init__(self, config: Config, memories: Memories, dram: Mapping[tirx.Buffer, Buffer]) -> None:
        self._config = config
        self._memories = memories
        self._dram = dram
        self._addresses: dict[tuple[Access, tuple[int, ...]], Affine] = {}

    def numbers_at(self, access: Access, values: dict[Variable, int]) -> Affine:
        """Return an address in numbers from the beginning of the buffer."""
        buffer = buffer_of(access)
        if buffer in self._dram:
            extents = self._dram[buffer].shape
            corner = 0
        else:
            within = self._memories.within(buffer)
            extents = tuple(map(len, within))
            corner = address([constant(each.start) for each in within], extents).constant
        key = access, extents
        if key not in self._addresses:
            self._addresses[key] = address(indices_of(access), extents)
        place = self._addresses[key].at(values)
        return Affine(place.constant - corner, place.factors)

    def lanes(self, statement: Statement, place: Affine, box: Box) -> dict[Variable, int]:
        """Return the loops that walk through one element of the target, or of what it is copied from."""
        buffer = statement.source.buffer
        if scope_of(buffer) == "global":
            buffer = reads_of(statement.source.value)[0].source
        numbers = numbers_of(buffer, self._config)
        within = lanes(place, box, numbers)
        if within is None:
            raise statement.refuse(f"{buffer.name} is not addressed by whole elements of {numbers}")
        return within

    def elements(  # noqa: PLR0917 - what is addressed, and where
        self,
        statement: Statement,
        access: Access,
        values: dict[Variable, int],
        box: Box,
        within: dict[Variable, int],
        numbers: int,
    ) -> Affine:
        """Return an address in elements, over how far each loop is from the box's corner."""
        place = elements(self.numbers_at(access, values), box, numbers, within)
        if place is None:
            raise statement.refuse(
                f"{buffer_of(access).name} is not addressed by whole elements of {numbers}"
            )
        if scope_of(buffer_of(access)) == "global":
            return place
        return Affine(place.constant + self._memories.first(buffer_of(access)), place.factors)

    def first(self, access: Access) -> int:
        """Return the element of a memory at which the buffer of an access lies now."""
        return self._memories.first(buffer_of(access))
