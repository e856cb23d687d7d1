"""The table of supported instructions, from what the machine runs by: `python -m simulators.ptx.support`."""

import simulators.ptx.instructions  # noqa: F401  (fills the table of definitions)
from simulators.ptx.forms import DEFINITIONS, Definition


def support_table() -> str:
    """Every form of every instruction as a Markdown table: form, meaning, section of the PTX ISA."""
    rows = ["| form | meaning | PTX ISA |", "|---|---|---|"]
    definitions = [d for same in DEFINITIONS.values() for d in same]
    rows += [_row(d) for d in sorted(definitions, key=lambda d: (d.section.split(":")[0], d.pattern))]
    return "\n".join(rows) + "\n"


def _row(definition: Definition) -> str:
    meaning = definition.summary.removesuffix(".").replace("|", "\\|")
    return f"| `{definition.written}` | {meaning} | {definition.section} |"


if __name__ == "__main__":
    print(support_table(), end="")
