"""Versions of what a verdict depends on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "bitexact",
    "apache-tvm",
    "apache-tvm-ffi",
    "numpy",
    "ml_dtypes",
    "nvidia-cuda-nvrtc",
    "ziglang",
)


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that compute something; None where one is not installed.

    ``processor`` is no version, but decides as much: the kind of CPU.
    """
    return {
        "python": platform.python_version(),
        "processor": platform.machine(),
        **{package: package_version(package) for package in PACKAGES},
    }


def package_version(package: str) -> str | None:
    """The installed version of one package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
