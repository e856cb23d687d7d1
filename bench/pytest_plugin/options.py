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
DEFAULT_DEVICE = "sim"
DEFAULT_TIMEOUT = 600.0
DEFAULT_WAIVERS = "bitexact-waivers.toml"
RANDOM = "random"
WORKER_SEED = "bitexact_seed"


def add_options(parser: pytest.Parser) -> None:
    """Add the group of options."""
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
    group.addoption(
        "--bitexact-bundles",
        metavar="DIR",
        help="where a failing case is kept, to be replayed (default: BITEXACT_BUNDLES, or a temporary folder "
        "of the session); none: nowhere",
    )
    group.addoption(
        "--bitexact-replay",
        action="append",
        default=[],
        metavar="BUNDLE",
        help="run this bundle and no tests, on its own device unless one is named; may be repeated",
    )


def _seed_or_random(value: str) -> int | str:
    if value == RANDOM:
        return RANDOM
    try:
        return a_seed(value)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, and not {RANDOM}") from None


@dataclass(frozen=True)
class Settings:
    """What the options say. ``targets`` is empty and ``asked_device`` None where none was asked for."""

    targets: tuple[str, ...]
    asked_device: str | None
    seed: int
    timeout: float
    require_device: bool
    slow: bool
    waivers: Path | None
    artifacts: Path | None
    bundles: str | None
    replay: tuple[Path, ...]
    here: Path
    """The folder that pytest was started in."""

    @property
    def device(self) -> str:
        """The device of tests that name none."""
        return self.asked_device or DEFAULT_DEVICE

    @staticmethod
    def of(config: pytest.Config) -> Settings:
        """The settings of a session. Raises pytest.UsageError for a file or folder that is not there."""
        option = config.option
        return Settings(
            targets=tuple(option.bitexact_target),
            asked_device=option.bitexact_device,
            seed=_seed(config),
            timeout=option.bitexact_timeout,
            require_device=option.bitexact_require_device,
            slow=option.bitexact_slow,
            waivers=_waivers(config),
            artifacts=_path(config, option.bitexact_artifacts),
            bundles=option.bitexact_bundles,
            replay=tuple(_bundle(config, given) for given in option.bitexact_replay),
            here=config.invocation_params.dir,
        )

    def for_worker(self) -> dict[str, int]:
        """What a worker of pytest-xdist cannot learn from the options it is started with."""
        return {WORKER_SEED: self.seed}

    def header(self) -> str:
        """The line for the head of a session."""
        targets = f", target {', '.join(self.targets)}" if self.targets else ""
        return f"bitexact: seed {self.seed}, device {self.device}{targets}"


def _seed(config: pytest.Config) -> int:
    """The seed of the session; a random one is drawn once, and handed to the workers of pytest-xdist."""
    of_controller = getattr(config, "workerinput", {}).get(WORKER_SEED)
    if of_controller is not None:
        return int(of_controller)
    given = config.option.bitexact_seed
    return random.SystemRandom().randrange(1 << 32) if given == RANDOM else int(given)


def _path(config: pytest.Config, given: str | None) -> Path | None:
    return config.invocation_params.dir / given if given else None


def _bundle(config: pytest.Config, given: str) -> Path:
    path = (config.invocation_params.dir / given).resolve()
    if not path.is_dir():
        raise pytest.UsageError(f"--bitexact-replay: there is no folder {given}")
    return path


def _waivers(config: pytest.Config) -> Path | None:
    given = _path(config, config.option.bitexact_waivers)
    if given and not given.is_file():
        raise pytest.UsageError(f"--bitexact-waivers: there is no file {given}")
    default = config.rootpath / DEFAULT_WAIVERS
    return given or (default if default.is_file() else None)
