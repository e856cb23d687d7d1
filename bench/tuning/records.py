"""Tuning records: MetaSchedule's database in a folder, and the tilings that later runs take from it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tvm
from tvm_ffi import structural_equal

from kernels.tensorcore.design_space import tiling_of_json
from kernels.tensorcore.intrinsics import intrinsics
from kernels.tensorcore.tile import Tile
from kernels.tensorcore.tiling import Tiling

if TYPE_CHECKING:
    from tvm.s_tir.meta_schedule.database import Database

VARIABLE = "BITEXACT_TUNING"
WORKLOADS, RECORDS = "database_workload.json", "database_tuning_record.json"
# MetaSchedule keeps this many seconds for a candidate that failed.
FAILED = 1e9


DEVICES = ("cuda", "sim")
"""What can measure, the best witness first."""


def device_folder(folder: Path, device: str) -> Path:
    """Where in a folder of records those of a device are: costs of two devices cannot be compared."""
    return folder if device == "sim" else folder / device


def target() -> tvm.target.Target:
    """What the records are for."""
    return tvm.target.Target({"kind": "cuda", "arch": "sm_80"}, host="llvm")


def workload(function: tvm.tirx.PrimFunc) -> tvm.IRModule:
    """A described layer as the database knows it: equal descriptions are one workload."""
    return tvm.IRModule({"main": function.with_attr("global_symbol", "main")})


def default_folder() -> Path | None:
    """Where records are kept unless a folder is given.

    The folder named by ``BITEXACT_TUNING`` (empty: none), else ``bitexact/tuning`` in the user's cache.
    """
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named) if named else None
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "bitexact", "tuning")


@dataclass(frozen=True)
class Record:
    """The best tiling that was found for a layer, its cost (:mod:`bench.tuning.measurement`), and on what."""

    tiling: Tiling
    cost: float
    device: str = "sim"

    def __str__(self) -> str:
        """Say in a few words where a tiling comes from."""
        return (
            f"tuned, cost {self.cost:,.0f}"
            if self.device == "sim"
            else f"tuned, {self.cost:,.0f} ns on a GPU"
        )


def open_database(folder: Path) -> Database:
    """The database in a folder, made where there is none. ValueError where it cannot be read or written.

    To read it, MetaSchedule replays every record, some hundredths of a second each.
    """
    # Imported only where records are wanted: it takes a second.
    from tvm.s_tir import meta_schedule

    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / RECORDS).is_file():
            _register_intrinsics((folder / RECORDS).read_text())
        return meta_schedule.database.JSONDatabase(work_dir=str(folder))
    except Exception as error:  # TVM raises whatever its reader meets
        raise ValueError(_unreadable(folder, error)) from None


def _unreadable(folder: Path, error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return f"tuning database {folder} cannot be read: {reason}"


def _register_intrinsics(stored: str) -> None:
    """Register the tensor intrinsics that stored records name: MetaSchedule needs them to replay these."""
    named = re.findall(r'"bitexact\.((?:wmma|mma)\.\w+)\.(\w+)\.(\w+)\.\w+"', stored)
    for tile, dtype, weight_dtype in sorted(set(named)):
        intrinsics(Tile.parse(tile), dtype, weight_dtype)


class Records:
    """The best records of a folder, read once and only if there are any.

    What a GPU has measured is preferred to what the PTX machine has counted. The files are MetaSchedule's
    own; they are read without a replay, which a run would have to wait for.
    """

    def __init__(self, folder: Path | None) -> None:
        self._devices = (
            [_Records(device_folder(folder, device), device) for device in DEVICES] if folder else []
        )

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return any(each.any for each in self._devices)

    def find(self, function: tvm.tirx.PrimFunc) -> Record | None:
        """The best record of a described layer; None where there is none.

        Raises ValueError where the database cannot be read or holds a record of another space.
        """
        return next((record for each in self._devices if (record := each.find(function))), None)


class _Records:
    """Those of one device."""

    def __init__(self, folder: Path, device: str) -> None:
        self._folder = folder
        self._device = device
        self._best: list[tuple[tvm.IRModule, Record]] | None = None

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return (self._folder / RECORDS).is_file()

    def find(self, function: tvm.tirx.PrimFunc) -> Record | None:
        """As :meth:`Records.find`."""
        if not self.any:
            return None
        if self._best is None:
            try:
                self._best = list(_read(self._folder, self._device))
            except Exception as error:  # a damaged file can be anything
                raise ValueError(_unreadable(self._folder, error)) from None
        wanted = workload(function)
        return next((record for known, record in self._best if structural_equal(known, wanted)), None)


def _read(folder: Path, device: str) -> Iterator[tuple[tvm.IRModule, Record]]:
    """Each workload of a folder that has a record that counts, with the best."""
    from tvm.s_tir import meta_schedule

    best: dict[int, tuple[float, Any]] = {}
    for line in (folder / RECORDS).read_text().splitlines():
        index, (trace, costs, *_) = json.loads(line)
        # A candidate that failed is kept too, with a cost that is none.
        if costs and max(costs) < FAILED and (index not in best or costs[0] < best[index][0]):
            best[index] = (float(costs[0]), trace)
    workloads = (folder / WORKLOADS).read_text().splitlines()
    for index, (cost, trace) in best.items():
        known = meta_schedule.database.Workload.from_json(json.loads(workloads[index]))
        yield known.mod, Record(tiling_of_json(trace), cost, device)
