"""What a run makes on its way to a verdict, for whoever wants to keep it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm

from bench.artifact import Artifact, TensorSpec
from bench.flows.transformed import Transformed


@dataclass
class Trace:
    """The pieces of one run, as far as it came; each is None or empty before.

    ``mod`` is the integer graph and ``transformed`` what the target's passes made of it; of a single kernel
    both are None, ``kernel`` is its scheduled function where it has one, ``tensors`` are its tensors with the
    result last, and ``expected`` is what its reference gave. ``options`` are those of the target.

    A run that is given a trace takes what stands in ``transformed`` and ``artifact`` as it is instead of
    making it again.
    """

    mod: tvm.IRModule | None = None
    inputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    profile: str | None = None
    transformed: Transformed | None = None
    artifact: Artifact | None = None
    kernel: tvm.IRModule | None = None
    tensors: tuple[TensorSpec, ...] = ()
    expected: np.ndarray | None = None
    instruction: str | None = None
