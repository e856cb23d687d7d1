"""Tuning records: MetaSchedule's database in a folder, and the tilings that later runs take from it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tvm

from kernels.tensorcore.design_space import tiling_of
from kernels.tensorcore.tiling import Tiling

if TYPE_CHECKING:
    from tvm.s_tir.meta_schedule.database import Database

VARIABLE = "BITEXACT_TUNING"
WORKLOADS, RECORDS = "database_workload.json", "database_tuning_record.json"


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
    """The best tiling that was found for a layer, and its cost (:mod:`bench.tuning.measurement`)."""

    tiling: Tiling
    cost: float


def open_database(folder: Path) -> Database:
    """The database in a folder, made where there is none. ValueError where it cannot be read or written."""
    # Imported only where there are records: it takes a second.
    from tvm.s_tir import meta_schedule

    try:
        folder.mkdir(parents=True, exist_ok=True)
        return meta_schedule.database.JSONDatabase(work_dir=str(folder))
    except Exception as error:  # TVM raises whatever its reader meets
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"tuning database {folder} cannot be read: {reason}") from None


class Records:
    """The records of a folder, read once and only if there are any."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._database: Database | None = None

    def find(self, function: tvm.tirx.PrimFunc) -> Record | None:
        """The best record of a described layer; None where there is none.

        Raises ValueError where the database cannot be read or holds a record of another space.
        """
        if self._folder is None or not (self._folder / RECORDS).is_file():
            return None
        if self._database is None:
            self._database = open_database(self._folder)
        return find(self._database, function)


def find(database: Database, function: tvm.tirx.PrimFunc) -> Record | None:
    """The best record of a described layer in an open database; None where there is none."""
    if not database.has_workload(workload(function)):
        return None
    entry = database.commit_workload(workload(function))
    # A candidate that failed is kept too, without a cost that counts: it is never among these.
    best = database.get_top_k(entry, 1)
    if not best:
        return None
    return Record(tiling_of(best[0].trace), float(best[0].run_secs[0]))
