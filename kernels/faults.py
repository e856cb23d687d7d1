"""What every planted fault has in common."""


class FaultNotPlanted(ValueError):  # noqa: N818
    """The artefact holds no place where the named fault could be planted.

    A fault that silently changes nothing would let a check that cannot fail look as if it had passed.
    """
