"""The plugin's options, all with one prefix, and what they say."""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.commands.options import a_seed, a_timeout, some_device, some_targets

PREFIX = "--bitexact-"
DEFAULT_TARGET = "tensorcore"
DEFAULT_TIMEOUT = 600.0
DEFAULT_WAIVERS = "bitexact-waivers.toml"
RANDOM = "random"


def add_options(parser: pytest.Parser) -> None:
    """Add the group of options. What they give is plain, so that pytest-xdist can send it to its workers."""
    group = parser.getgroup("bitexact", "bitexact: kernels and graphs, bit for bit")
    group.addoption(
        "--bitexact-target",
        type=some_targets,
        default=[],
        metavar="TARGET[,TARGET]|all",
        help="target of tests that name none (default tensorcore), and targets of the fixture "
        "bitexact_target (default: all)",
    )
    group.addoption(
        "--bitexact-device",
        type=some_device,
        default="sim",
        metavar="DEVICE",
        help="device of tests that name none, as in bitexact run (default sim)",
    )
    group.addoption(
        "--bitexact-seed",
        type=_seed_or_random,
        default=0,
        metavar="N|random",
        help="with the id of a test, what its operands are drawn from (default 0)",
    )
    group.addoption(
        "--bitexact-timeout",
        type=a_timeout,
        default=DEFAULT_TIMEOUT,
        metavar="SECONDS",
        help="limit for the device in each call (default 600)",
    )
    group.addoption(
        "--bitexact-require-device",
        action="store_true",
        help="a device or simulator that is missing fails its tests instead of skipping them",
    )
    group.addoption("--bitexact-slow", action="store_true", help="run tests marked bitexact_slow, too")
    group.addoption(
        "--bitexact-waivers",
        metavar="FILE",
        help=f"known failures, by case and phase (default: {DEFAULT_WAIVERS} in the root folder, if there "
        "is one)",
    )
    group.addoption(
        "--bitexact-artifacts", metavar="DIR", help="keep what each call compiled: PTX, ELF, VTA program"
    )


def _seed_or_random(value: str) -> int | str:
    if value == RANDOM:
        return RANDOM
    try:
        return a_seed(value)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, and not {RANDOM}") from None


def settle(config: pytest.Config) -> None:
    """Replace what only the first process can know, before pytest-xdist hands the options to workers."""
    if config.option.bitexact_seed == RANDOM:
        config.option.bitexact_seed = random.SystemRandom().randrange(1 << 32)
    for name in ("bitexact_waivers", "bitexact_artifacts"):
        if given := getattr(config.option, name):
            setattr(config.option, name, str(config.invocation_params.dir / given))


@dataclass(frozen=True)
class Settings:
    """What the options say. ``targets`` is empty where none was asked for."""

    targets: tuple[str, ...]
    device: str
    seed: int
    timeout: float
    require_device: bool
    slow: bool
    waivers: Path | None
    artifacts: Path | None

    @staticmethod
    def of(config: pytest.Config) -> Settings:
        """The settings of a session. Raises pytest.UsageError for a file of waivers that is not there."""
        option = config.option
        return Settings(
            targets=tuple(option.bitexact_target),
            device=option.bitexact_device,
            seed=option.bitexact_seed,
            timeout=option.bitexact_timeout,
            require_device=option.bitexact_require_device,
            slow=option.bitexact_slow,
            waivers=_waivers(config),
            artifacts=Path(option.bitexact_artifacts) if option.bitexact_artifacts else None,
        )

    def header(self) -> str:
        """The line for the head of a session."""
        targets = f", target {', '.join(self.targets)}" if self.targets else ""
        return f"bitexact: seed {self.seed}, device {self.device}{targets}"


def _waivers(config: pytest.Config) -> Path | None:
    if given := config.option.bitexact_waivers:
        if not Path(given).is_file():
            raise pytest.UsageError(f"--bitexact-waivers: there is no file {given}")
        return Path(given)
    default = config.rootpath / DEFAULT_WAIVERS
    return default if default.is_file() else None
