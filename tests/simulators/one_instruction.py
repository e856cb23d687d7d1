"""Runs one PTX instruction over arrays of operands, and converts between integers and bits."""

import numpy as np

from simulators import ptx

SIZES = {"8": 1, "16": 2, "32": 4, "64": 8}
REGISTER = {1: "b16", 2: "b16", 4: "b32", 8: "b64"}


def bits_of(type_: str) -> int:
    return 1 if type_ == "pred" else int(type_[1:])


def wrapped(value: int, type_: str) -> int:
    """A Python integer as what a register of that type holds."""
    bits = bits_of(type_)
    value &= (1 << bits) - 1
    return value - (1 << bits) if type_[0] == "s" and value >> (bits - 1) else value


def corners(type_: str) -> list[int]:
    """The ends, zero, one, minus one, bit patterns and a few in between."""
    bits = bits_of(type_)
    patterns = [0, 1, 2, 7, (1 << bits) - 1, (1 << bits) - 2, 1 << (bits - 1), (1 << (bits - 1)) - 1,
                0x5555555555555555, 0x80FF7F01C3A55A3C, 0x0123456789ABCDEF]  # fmt: skip
    return [wrapped(p, type_) for p in patterns]


def kernel_text(name: str, sources: list[str], result: str, immediates: dict[int, str]) -> str:
    """A kernel that loads the operands of thread i, executes, and stores the result at i.

    A predicate travels as a byte: not zero is true.
    """
    lines, operands, arguments = [], [], []
    for index, type_ in enumerate(sources):
        if index in immediates:
            operands.append(immediates[index])
            continue
        arguments.append(f".param .u64 in{index}")
        predicate = type_ == "pred"
        bits = 8 if predicate else bits_of(type_)
        register = f"%in{index}"
        kind = f"f{bits}" if type_[0] == "f" else f"b{max(bits, 16)}"
        raw = f"%raw{index}" if predicate else register
        lines += [
            f".reg .{kind} {raw}; .reg .b64 %at{index};",
            f"ld.param.u64 %at{index}, [in{index}];",
            f"mad.wide.u32 %at{index}, %i, {bits // 8}, %at{index};",
            f"ld.global.{'f' if type_[0] == 'f' else 'u'}{bits} {raw}, [%at{index}];",
        ]
        if predicate:
            lines += [f".reg .pred {register};", f"setp.ne.u16 {register}, {raw}, 0;"]
        operands.append(register)
    predicate = result == "pred"
    bits = 8 if predicate else bits_of(result)
    kind = "pred" if predicate else f"f{bits}" if result[0] == "f" else f"b{max(bits, 16)}"
    lines += [f".reg .{kind} %out;", f"{name} {', '.join(['%out', *operands])};"]
    stored = "%out"
    if predicate:
        lines += [".reg .b16 %byte;", "selp.u16 %byte, 1, 0, %out;"]
        stored = "%byte"
    lines += [
        "ld.param.u64 %to, [out];",
        f"mad.wide.u32 %to, %i, {bits // 8}, %to;",
        f"st.global.{'f' if result[0] == 'f' else 'u'}{bits} [%to], {stored};",
        "ret;",
    ]
    arguments.append(".param .u64 out")
    body = "\n  ".join([".reg .b32 %i; .reg .b64 %to;", "mov.u32 %i, %tid.x;", *lines])
    head = ".version 8.0\n.target sm_80\n.address_size 64\n"
    return f"{head}.visible .entry one({', '.join(arguments)})\n{{\n  {body}\n}}\n"


def dtype_of(type_: str) -> np.dtype:
    if type_ == "pred":
        return np.dtype(np.uint8)
    return np.dtype(f"{'f' if type_[0] == 'f' else 'i' if type_[0] == 's' else 'u'}{bits_of(type_) // 8}")


def execute(
    name: str, sources: list[str], result: str, operands: list[list], immediates: dict[int, str] | None = None
) -> np.ndarray:
    """The results for each row of operands (one list for each source that is not an immediate)."""
    immediates = immediates or {}
    count = len(operands[0])
    module = ptx.parse(kernel_text(name, sources, result, immediates))
    given = [t for i, t in enumerate(sources) if i not in immediates]
    arrays = [np.array(values, dtype_of(type_)) for values, type_ in zip(operands, given, strict=True)]
    out = np.zeros(count, dtype_of(result))
    for first in range(0, count, 1024):
        chunk = [np.ascontiguousarray(a[first : first + 1024]) for a in arrays]
        target = np.zeros(len(chunk[0]), out.dtype)
        report = module.launch("one", 1, len(target), [*chunk, target])
        assert report.findings == []
        out[first : first + 1024] = target
    return out
