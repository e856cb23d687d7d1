"""Run an artefact on the machine of its target in this process: nothing stands between the bench and it.

A machine that crashes or hangs takes the process with it, so this is for processes that may end: those of the
audit, which change the machine itself.
"""

from __future__ import annotations

import numpy as np

from bench.artifact import Artifact
from bench.devices.execution import Execution, execution_of
from bench.devices.worker import run_here


def execute_here(artifact: Artifact, inputs: dict[str, np.ndarray], **_: object) -> Execution:
    """A :data:`bench.pipeline.Executor` of the device ``sim``, without time limit. Raises DeviceFailure."""
    tensors, report = run_here(artifact, [inputs[spec.name] for spec in artifact.inputs])
    named = {spec.name: array for spec, array in zip(artifact.outputs, tensors, strict=True)}
    return execution_of(named, report)
