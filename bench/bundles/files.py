"""The names of the files in a bundle."""

FORMAT = 1
MANIFEST = "bundle.json"
README = "README.txt"
INPUTS = "inputs.npz"
EXPECTED = "expected.npz"
ARTIFACT = "artifact.zip"
BEFORE = "graph_before"
AFTER = "graph_after"
KERNEL = "kernel"
TRANSFORMED = "transformed.json"
LOADED, SHOWN = ".json", ".txt"
"""Endings of the two forms of a graph: the one that is read again, and the one for people."""
