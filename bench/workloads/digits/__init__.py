"""A small convolutional network on scans of handwritten digits."""

from bench.workloads.digits.network import load, network

__all__ = ["load", "network"]
