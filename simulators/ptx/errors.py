"""What can be wrong with PTX text or with a launch; each error names the offending thing."""


class PtxError(Exception):
    """Any error of the PTX machine."""


class PtxSyntaxError(PtxError):
    """The text is not PTX; the message begins with the line."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line


class UnsupportedInstructionError(PtxError):
    """An instruction, a modifier or a directive that this machine lacks."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line


class UnknownKernelError(PtxError):
    """The module has no kernel of that name."""


class LaunchError(PtxError):
    """A grid, a block or an argument that the kernel cannot be launched with."""


class IllegalAddressError(PtxError):
    """With checks off: an access outside all memory, or a misaligned one, where a device would fault."""


class InstructionBudgetError(PtxError):
    """The launch issued more warp instructions than it was allowed."""


class KernelTrapError(PtxError):
    """The kernel executed `trap`: it gave up."""
