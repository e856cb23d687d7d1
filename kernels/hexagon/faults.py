"""Faults planted in the machine code of a built Hexagon ELF, to see that a comparison can fail."""

from bisect import bisect
from collections.abc import Callable, Mapping
from types import MappingProxyType

from kernels.faults import FaultNotPlanted
from kernels.hexagon.machine_code import OPERATIONS, Vrmpy, find_vrmpy, function_offsets, rewrite

_OTHER_SIGNEDNESS = {
    "vrmpyub": "vrmpybus",  # of the scalar operand, the data
    "vrmpybus": "vrmpyub",
    "vrmpybusv": "vrmpyubv",  # of the second operand, the weights
}


def other_signedness(elf: bytes) -> bytes:
    """Let every vrmpy by a scalar read the data, and every vrmpybusv the weights, with the other signedness.

    So a data byte from 128 counts 256 less, a negative one 256 more. The sums of the data, which are made
    without vrmpy, stay right. Raises FaultNotPlanted where the ELF holds no such vrmpy.
    """
    names = {**_OTHER_SIGNEDNESS, **{f"{a}_acc": f"{b}_acc" for a, b in _OTHER_SIGNEDNESS.items()}}
    changed = [instruction for instruction in find_vrmpy(elf) if instruction.operation in names]
    if not changed:
        raise FaultNotPlanted(
            "other_signedness: the ELF holds no vrmpy of an operand that could change its sign"
        )
    for instruction in changed:
        elf = rewrite(elf, instruction, operation=names[instruction.operation])
    return elf


def drop_accumulate(elf: bytes) -> bytes:
    """Let one vrmpy in each function overwrite its accumulator instead of adding to it.

    It is the middle one of the code, so in each kernel one position of a tile loses the partial sum before
    it. Raises FaultNotPlanted where no vrmpy accumulates.
    """
    starts = function_offsets(elf)
    functions: dict[int, list[Vrmpy]] = {}
    for instruction in find_vrmpy(elf):
        if instruction.operation.endswith("_acc"):
            functions.setdefault(bisect(starts, instruction.offset), []).append(instruction)
    if not functions:
        raise FaultNotPlanted("drop_accumulate: the ELF holds no vrmpy that accumulates")
    for accumulating in functions.values():
        middle = accumulating[len(accumulating) // 2]
        plain = middle.operation.removesuffix("_acc")
        assert plain in OPERATIONS
        elf = rewrite(elf, middle, operation=plain)
    return elf


FAULTS: Mapping[str, Callable[[bytes], bytes]] = MappingProxyType(
    {"other_signedness": other_signedness, "drop_accumulate": drop_accumulate}
)
