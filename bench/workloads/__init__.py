"""Networks that the bench ships, by name."""

from __future__ import annotations

import inspect
from types import ModuleType

from bench.workloads import digits
from bench.workloads.networks import mobilenetv2, resnet18, resnet50, unet_small, yolo_head
from bench.workloads.workload import Workload

_MODULES: dict[str, ModuleType] = {
    "digits": digits,
    "mobilenetv2": mobilenetv2,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "unet_small": unet_small,
    "yolo_head": yolo_head,
}


def names() -> tuple[str, ...]:
    """Names of the workloads, sorted."""
    return tuple(sorted(_MODULES))


def what(name: str) -> str:
    """What a workload is, in a line: the first sentence of its package."""
    return (_MODULES[name].__doc__ or "").strip().partition("\n")[0]


def takes(name: str, option: str) -> bool:
    """Whether a workload takes an option of :func:`load`."""
    return option in inspect.signature(_MODULES[name].load).parameters


def load(
    name: str, *, batch: int | None = None, image: int | None = None, width: float | None = None
) -> Workload:
    """Load a workload, for a batch of images, of images of this side, with channels thinned by `width`.

    What is not given is the workload's own: a batch of 256 for digits, and of 1, at full width, of 224 or 64
    pixels a side for the networks with seeded weights. ValueError names the valid workloads where `name` is
    not one, or the option that a workload does not take or whose value it does not.
    """
    if name not in _MODULES:
        raise ValueError(f"no workload {name!r}; there is {', '.join(names())}")
    loader = _MODULES[name].load
    options = {"batch": batch, "image": image, "width": width}
    given = {option: value for option, value in options.items() if value is not None}
    taken = inspect.signature(loader).parameters
    for option in given:
        if option not in taken:
            raise ValueError(f"{name} takes no option {option!r}, only {', '.join(taken)}")
    workload: Workload = loader(**given)
    return workload


__all__ = ["Workload", "load", "names", "takes", "what"]
