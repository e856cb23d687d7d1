"""Flows: what each target contributes from an integer graph to machine code."""
