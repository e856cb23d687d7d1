"""The configuration of a VTA: the keys of `vta_config.json`, and what follows from them."""

import json
from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np

UOP_BYTES = 4
LOOP_BITS = 14
IMMEDIATE_BITS = 16
SRAM_ADDRESS_BITS = 16
PAD_LIMIT = 15
DRAM_PAGE_BYTES = 4096


@dataclass(frozen=True)
class Config:
    """The keys of a VTA configuration file; the defaults are the Pynq sample (apache/tvm-vta).

    Sizes are base-2 logarithms: of bits for `*_WIDTH`, of bytes for `*_BUFF_SIZE`, of elements for the
    two tile sizes. A combination that gives no working machine raises one ValueError that lists all
    that is wrong with it. TARGET and HW_VER are carried along and mean nothing to the machine.
    """

    TARGET: str = field(default="pynq", compare=False)
    HW_VER: str = field(default="0.0.2", compare=False)
    LOG_INP_WIDTH: int = 3
    LOG_WGT_WIDTH: int = 3
    LOG_ACC_WIDTH: int = 5
    LOG_BATCH: int = 0
    LOG_BLOCK: int = 4
    LOG_UOP_BUFF_SIZE: int = 15
    LOG_INP_BUFF_SIZE: int = 15
    LOG_WGT_BUFF_SIZE: int = 18
    LOG_ACC_BUFF_SIZE: int = 17

    def __post_init__(self) -> None:
        problems = _problems(self)
        if problems:
            raise ValueError("not a VTA configuration: " + "; ".join(problems))

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Read the configuration in the text of a `vta_config.json`; ValueError where it is none."""
        try:
            keys = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"not a VTA configuration: not JSON ({error})") from None
        if not isinstance(keys, dict):
            raise ValueError("not a VTA configuration: the JSON is not an object")
        valid = [each.name for each in fields(cls)]
        unknown = sorted(set(keys) - set(valid))
        if unknown:
            raise ValueError(f"not a VTA configuration: unknown keys {unknown}; the keys are {valid}")
        return cls(**keys)

    @cached_property
    def batch(self) -> int:
        """Rows of one INP, ACC and OUT element."""
        return 1 << self.LOG_BATCH

    @cached_property
    def block(self) -> int:
        """Channels of one element, and rows and columns of one WGT element."""
        return 1 << self.LOG_BLOCK

    @cached_property
    def inp_width(self) -> int:
        """Bits of a number in INP, and in OUT."""
        return 1 << self.LOG_INP_WIDTH

    @cached_property
    def wgt_width(self) -> int:
        """Bits of a number in WGT."""
        return 1 << self.LOG_WGT_WIDTH

    @cached_property
    def acc_width(self) -> int:
        """Bits of an accumulator."""
        return 1 << self.LOG_ACC_WIDTH

    @cached_property
    def inp_dtype(self) -> np.dtype:
        """What holds a number of INP: int8 (a narrower one too) or int16."""
        return _holder(self.inp_width)

    @cached_property
    def wgt_dtype(self) -> np.dtype:
        """What holds a number of WGT: int8 (a narrower one too) or int16."""
        return _holder(self.wgt_width)

    @cached_property
    def acc_dtype(self) -> np.dtype:
        """What holds an accumulator."""
        return _holder(self.acc_width)

    @cached_property
    def product_dtype(self) -> np.dtype:
        """The float in which the sum of one tile's products is exact."""
        return np.dtype(np.float32 if self._exact(24) >= self.block else np.float64)

    @cached_property
    def exact_reduction(self) -> int:
        """How many products can be added in `product_dtype`, in any order, without rounding."""
        return self._exact(24 if self.product_dtype == np.float32 else 53)

    def _exact(self, mantissa: int) -> int:
        return 1 << max(mantissa - (self.inp_width - 1) - (self.wgt_width - 1), 0)

    @cached_property
    def inp_bytes(self) -> int:
        """Bytes of one INP (and OUT) element, batch × block numbers."""
        return self.batch * self.block * self.inp_width // 8

    @cached_property
    def wgt_bytes(self) -> int:
        """Bytes of one WGT element, block (out) × block (in) numbers."""
        return self.block * self.block * self.wgt_width // 8

    @cached_property
    def acc_bytes(self) -> int:
        """Bytes of one ACC element, batch × block accumulators."""
        return self.batch * self.block * self.acc_width // 8

    @cached_property
    def uop_bits(self) -> int:
        """Width of a micro-op index."""
        return self.LOG_UOP_BUFF_SIZE - 2

    @cached_property
    def inp_bits(self) -> int:
        """Width of an INP index."""
        return self.LOG_INP_BUFF_SIZE - self.LOG_BATCH - self.LOG_BLOCK - self.LOG_INP_WIDTH + 3

    @cached_property
    def wgt_bits(self) -> int:
        """Width of a WGT index."""
        return self.LOG_WGT_BUFF_SIZE - 2 * self.LOG_BLOCK - self.LOG_WGT_WIDTH + 3

    @cached_property
    def acc_bits(self) -> int:
        """Width of an ACC index; OUT has the same depth."""
        return self.LOG_ACC_BUFF_SIZE - self.LOG_BATCH - self.LOG_BLOCK - self.LOG_ACC_WIDTH + 3

    @cached_property
    def uop_depth(self) -> int:
        """Micro-ops that the UOP memory holds."""
        return 1 << self.uop_bits

    @cached_property
    def inp_depth(self) -> int:
        """Elements that the INP memory holds."""
        return 1 << self.inp_bits

    @cached_property
    def wgt_depth(self) -> int:
        """Elements that the WGT memory holds."""
        return 1 << self.wgt_bits

    @cached_property
    def acc_depth(self) -> int:
        """Elements that the ACC memory holds, and OUT too."""
        return 1 << self.acc_bits

    @cached_property
    def bitstream(self) -> str:
        """The name VTA gives this configuration, as in `1x16_i8w8a32_15_15_18_17`."""
        widths = f"i{1 << self.LOG_INP_WIDTH}w{1 << self.LOG_WGT_WIDTH}a{1 << self.LOG_ACC_WIDTH}"
        sizes = (
            self.LOG_UOP_BUFF_SIZE,
            self.LOG_INP_BUFF_SIZE,
            self.LOG_WGT_BUFF_SIZE,
            self.LOG_ACC_BUFF_SIZE,
        )
        return "_".join([f"{self.batch}x{self.block}", widths, *map(str, sizes)])


def _holder(bits: int) -> np.dtype:
    """The signed integer that holds a number of so many bits."""
    return np.dtype(f"int{max(bits, 8)}")


def _problems(config: Config) -> list[str]:
    """All that keeps a configuration from being a machine, in words."""
    numbers = {
        each.name: getattr(config, each.name) for each in fields(config) if each.name.startswith("LOG_")
    }
    wrong = [
        f"{name} is {value!r}, not a number from 0 to 30"
        for name, value in numbers.items()
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 30
    ]
    if wrong:
        return wrong
    for name, low, high in (("LOG_INP_WIDTH", 1, 4), ("LOG_WGT_WIDTH", 1, 4), ("LOG_ACC_WIDTH", 4, 5)):
        if not low <= numbers[name] <= high:
            wrong.append(f"{name} is {numbers[name]}, and {low} to {high} is supported")
    if wrong:
        return wrong
    if config.inp_width >= config.acc_width:
        wrong.append(f"numbers of {config.inp_width} bits and accumulators of {config.acc_width}")
    memories = {
        "UOP": (config.uop_bits, UOP_BYTES),
        "INP": (config.inp_bits, config.inp_bytes),
        "WGT": (config.wgt_bits, config.wgt_bytes),
        "ACC": (config.acc_bits, config.acc_bytes),
    }
    for memory, (bits, element_bytes) in memories.items():
        if element_bytes < 1:
            wrong.append(f"an element of {memory} is less than one byte")
        if bits < 1:
            wrong.append(f"LOG_{memory}_BUFF_SIZE holds fewer than two elements of {element_bytes} bytes")
        if bits > SRAM_ADDRESS_BITS:
            wrong.append(
                f"LOG_{memory}_BUFF_SIZE holds 2^{bits} elements, and sram_base has {SRAM_ADDRESS_BITS} bits"
            )
        if element_bytes > DRAM_PAGE_BYTES:
            wrong.append(
                f"an element of {memory} has {element_bytes} bytes, and at most {DRAM_PAGE_BYTES} are allowed"
            )
    if wrong:
        return wrong
    source_bits = max(config.acc_bits, config.inp_bits)
    words = {
        "a micro-op": (config.acc_bits + source_bits + config.wgt_bits, 32),
        "the first word of GEMM and ALU": (8 + 2 * config.uop_bits + 1 + 2 * LOOP_BITS, 64),
        "the factors of GEMM": (2 * (config.acc_bits + config.inp_bits + config.wgt_bits), 64),
        "the second word of ALU": (2 * (config.acc_bits + config.inp_bits) + 4 + IMMEDIATE_BITS, 64),
    }
    return [f"{word}: {need} bits do not fit {room}" for word, (need, room) in words.items() if need > room]


PYNQ = Config()
