"""What every planted fault shares: the error that says it found nothing to act on."""


class FaultNotPlanted(ValueError):  # noqa: N818 - the name says what happened
    """A named fault found nothing to act on: the artefact has changed, and the fault must be revised.

    A fault that silently changed nothing would let a check that cannot fail look as if it had passed.
    """
