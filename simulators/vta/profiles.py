"""Where VTA's backends differ from one another, as a table of behaviours, and programs run on all of them.

Sources: the functional simulator (`sim_driver.cc`), the HLS, Chisel and OpenCL designs of apache/tvm-vta,
and VTA++ (arXiv 2111.15024). The table in docs/vta.md is made from this file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

BEHAVIOURS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "stored": {
            "acc": "STORE writes the low bits of ACC",
            "out": "STORE reads OUT, a memory of its own, where GEMM and ALU write their results' low bits",
        },
        "reset": {
            "clears": "what a GEMM with reset leaves to be stored is zero",
            "keeps-sum": "a GEMM with reset writes the low bits of ACC plus the product to OUT",
            "unknown": "what a GEMM with reset leaves in OUT is not known: it counts as uninitialised",
        },
        "immediate": {
            "dst": "an ALU operation with an immediate reads ACC[dst]",
            "src": "an ALU operation with an immediate reads ACC[src]",
        },
        "shift": {
            "whole": "SHR shifts by the whole operand, to the left where it is negative",
            "signed-5": "SHR shifts by the operand's low 5 bits as a signed number: 16 to 31 shift left",
            "unsigned-5": (
                "SHR shifts right by the operand's low 5 bits, or, where the immediate field is negative, "
                "left by those of the negated operand"
            ),
            "signed-7": "SHR shifts by the operand's low 7 bits as a signed number",
        },
        "opcode_4": {
            "multiply": "ALU opcode 4 is MUL, the product modulo 2^32",
            "nothing": "ALU opcode 4 leaves ACC as it is, and OUT undefined",
            "shift-left": "ALU opcode 4 shifts left by the low 5 bits of the negated operand",
            "clip": "ALU opcode 4 is CLP, the value kept between -operand and operand",
        },
        "more_opcodes": {
            "none": "there is no ALU opcode above 4",
            "move-multiply": "ALU opcode 5 is MOV, the operand; 6 is MUL of both operands' low 8 bits",
        },
        "partial_sum": {
            "wide": "the sum of one GEMM tile is exact",
            "20-bit": "the sum of one GEMM tile wraps at 20 bits (BLOCK is 16 or 32)",
        },
        "acc_8bit": {
            "sign-extends": "LOAD ACC_8BIT reads int8 and extends the sign",
            "nothing": "LOAD ACC_8BIT does nothing",
        },
        "empty_load": {
            "nothing": "a LOAD with x_size 0 does nothing",
            "pads": "a LOAD with x_size 0 writes its zeros",
            "unknown": "what a LOAD with x_size 0 does to the memory is not known: here it does nothing",
        },
        "weight_pads": {
            "zeros": "pads of a LOAD to WGT are zeros",
            "ignored": "pads of a LOAD to WGT are ignored",
            "unknown": "what pads of a LOAD to WGT do is not known: here they are zeros",
        },
        "uop_load": {
            "rows": "a LOAD to UOP has rows and pads like any other",
            "one-row": "a LOAD to UOP reads x_size micro-ops and ignores rows, stride and pads",
            "unknown": "whether a LOAD to UOP knows rows and pads is not known: here it does",
        },
        "pad_value": {
            "zero": "pads are zeros",
            "zero-or-minimum": "bit 57 of a LOAD asks for the smallest number in place of zeros",
        },
        "bounds": {
            "checked": "an SRAM index beyond the depth is refused",
            "wraps": "an SRAM index beyond the depth wraps",
            "unknown": "nothing is seen to check an SRAM index",
        },
        "gemm_distance": {
            "any": "GEMM iterations may write the same ACC element one after another",
            "3": "a GEMM iteration must not write an ACC element that one of the two before it wrote",
        },
        "alu_distance": {
            "any": "ALU iterations may touch the same ACC element one after another",
            "2": "an ALU iteration must not touch the ACC element that the one before it wrote",
            "3": "an ALU iteration must not touch an ACC element that one of the two before it wrote",
        },
    }
)


@dataclass(frozen=True)
class Profile:
    """A backend, by what it does: each field but two is a behaviour, its value one of BEHAVIOURS."""

    name: str
    what: str
    stored: str = "acc"
    reset: str = "clears"
    immediate: str = "dst"
    shift: str = "whole"
    opcode_4: str = "multiply"
    more_opcodes: str = "none"
    partial_sum: str = "wide"
    acc_8bit: str = "sign-extends"
    empty_load: str = "nothing"
    weight_pads: str = "zeros"
    uop_load: str = "rows"
    pad_value: str = "zero"
    bounds: str = "checked"
    gemm_distance: str = "any"
    alu_distance: str = "any"

    def __post_init__(self) -> None:
        for behaviour, values in BEHAVIOURS.items():
            if getattr(self, behaviour) not in values:
                raise ValueError(f"{self.name}: {behaviour} is one of {', '.join(values)}")

    def says(self, behaviour: str) -> str:
        """Say in words what the backend does."""
        return BEHAVIOURS[behaviour][getattr(self, behaviour)]


assert {each.name for each in fields(Profile)} == {"name", "what", *BEHAVIOURS}

PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        each.name: each
        for each in (
            Profile("fsim", "the functional simulator, whose behaviour counts as VTA's"),
            Profile(
                "hls",
                "the Xilinx HLS design",
                stored="out",
                reset="keeps-sum",
                shift="signed-5",
                opcode_4="nothing",
                acc_8bit="nothing",
                empty_load="pads",
                weight_pads="ignored",
                uop_load="one-row",
                bounds="wraps",
                gemm_distance="3",
                alu_distance="3",
            ),
            Profile(
                "chisel",
                "the Chisel design, as tsim runs it",
                stored="out",
                reset="unknown",
                immediate="src",
                shift="unsigned-5",
                opcode_4="shift-left",
                acc_8bit="nothing",
                uop_load="unknown",
                bounds="unknown",
                alu_distance="2",
            ),
            Profile(
                "opencl",
                "the OpenCL design for Intel FPGAs",
                stored="out",
                reset="keeps-sum",
                partial_sum="20-bit",
                empty_load="unknown",
                weight_pads="unknown",
                uop_load="unknown",
                bounds="unknown",
            ),
            Profile(
                "vtapp",
                "VTA++ of Intel Labs",
                immediate="src",
                shift="signed-7",
                opcode_4="clip",
                more_opcodes="move-multiply",
                pad_value="zero-or-minimum",
            ),
        )
    }
)


def profile_of(name: str) -> Profile:
    """Return a profile by its name; ValueError says which there are."""
    if name not in PROFILES:
        raise ValueError(f"no VTA profile {name!r}; supported: {', '.join(PROFILES)}")
    return PROFILES[name]


def table() -> str:
    """Write the profiles as a Markdown table, a behaviour a row, and what each value means below it."""
    names = list(PROFILES)
    lines = ["| behaviour | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for behaviour in BEHAVIOURS:
        values = [getattr(PROFILES[name], behaviour) for name in names]
        lines.append(f"| `{behaviour}` | " + " | ".join(values) + " |")
    lines.append("")
    for behaviour, values_of in BEHAVIOURS.items():
        lines += [f"- `{behaviour}` {value}: {words}." for value, words in values_of.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
