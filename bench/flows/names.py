"""How targets are named, for whoever needs no more of them: nothing is imported for it."""

TARGETS = ("tensorcore", "hexagon", "vta")
