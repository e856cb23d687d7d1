"""What may have caused a mismatch: known signatures are tried, and those that predict it are named."""

from bench.compare.causes.cause import Cause
from bench.compare.causes.kernel import kernel_causes
from bench.compare.causes.layer import layer_causes

__all__ = ["Cause", "kernel_causes", "layer_causes"]
