"""Tensor operators evaluated through the models of an accelerator's instructions, one file a target.

Each file has ``OVERRIDES``: what :func:`bench.evaluate.evaluate_all` takes to route the packed operators of a
transformed graph through instruction models instead of through a plain convolution.
"""
