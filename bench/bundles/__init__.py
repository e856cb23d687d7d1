"""Bundles: all that a failing case consists of, in one directory, and its replay elsewhere."""

from bench.bundles.bundle import Bundle, BundleError, read
from bench.bundles.replay import replay
from bench.bundles.writing import is_failure, keep, write

__all__ = ["Bundle", "BundleError", "is_failure", "keep", "read", "replay", "write"]
