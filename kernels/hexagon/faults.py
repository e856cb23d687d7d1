"""Faults planted in the machine code of a built Hexagon ELF, to see that a comparison can fail."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from kernels.faults import FaultNotPlanted
from kernels.hexagon.machine_code import OPERATIONS, find_vrmpy, rewrite

_UNSIGNED = {
    "vrmpybusv": "vrmpyubv",
    "vrmpybusv_acc": "vrmpyubv_acc",
    "vrmpybus": "vrmpyub",
    "vrmpybus_acc": "vrmpyub_acc",
}


def unsigned_weights(elf: bytes) -> bytes:
    """Let every vrmpy with signed weights read them as unsigned: a weight w < 0 counts as w + 256.

    Raises FaultNotPlanted where the ELF holds no u8 x i8 vrmpy.
    """
    signed = [instruction for instruction in find_vrmpy(elf) if instruction.operation in _UNSIGNED]
    if not signed:
        raise FaultNotPlanted("unsigned_weights: the ELF holds no vrmpy of unsigned by signed bytes")
    for instruction in signed:
        elf = rewrite(elf, instruction, operation=_UNSIGNED[instruction.operation])
    return elf


def drop_accumulate(elf: bytes) -> bytes:
    """Let the last vrmpy in the code overwrite its accumulator instead of adding to it.

    So one tile position loses the partial sum before it. Raises FaultNotPlanted where no vrmpy accumulates.
    """
    accumulating = [instruction for instruction in find_vrmpy(elf) if instruction.operation.endswith("_acc")]
    if not accumulating:
        raise FaultNotPlanted("drop_accumulate: the ELF holds no vrmpy that accumulates")
    last = accumulating[-1]
    plain = last.operation.removesuffix("_acc")
    assert plain in OPERATIONS
    return rewrite(elf, last, operation=plain)


FAULTS: Mapping[str, Callable[[bytes], bytes]] = MappingProxyType(
    {"unsigned_weights": unsigned_weights, "drop_accumulate": drop_accumulate}
)
