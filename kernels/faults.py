"""What planting a fault in an artefact can come to, whatever the artefact."""


class FaultNotPlanted(ValueError):  # noqa: N818 - a name that callers read as a sentence
    """The artefact has nothing that this fault could change."""
