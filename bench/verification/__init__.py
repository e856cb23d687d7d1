"""Verifying a kernel of the user's own: what it computes against a reference, on a target's machine."""
