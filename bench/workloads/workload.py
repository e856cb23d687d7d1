"""What a workload is: a float network with inputs whose results can be judged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tvm


@dataclass(frozen=True)
class Workload:
    """A float Relax module and the data that goes with it.

    `module` has one function, `main(data)`, with the weights as constants and readable names of bindings.
    """

    name: str
    module: tvm.IRModule
    images: np.ndarray
    """float32, one batch of `main`, held out of the training."""
    labels: np.ndarray | None
    """int64, the class of each image; None where nobody knows it: synthetic images."""
    calibration: np.ndarray
    """float32, from the training part; any number of images, whatever the batch of `main`."""

    def accuracy(self, scores: np.ndarray) -> float:
        """Share of the images whose largest score, in an array (N, classes), is at their label.

        ValueError where there are no labels, or other images.
        """
        if self.labels is None:
            raise ValueError(f"{self.name} has no labels, so that no accuracy can be told")
        if scores.shape[:1] != self.labels.shape:
            raise ValueError(f"scores of shape {scores.shape} are not those of {len(self.labels)} images")
        return float((scores.argmax(axis=1) == self.labels).mean())
