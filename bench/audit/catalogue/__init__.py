"""The faults by name."""

from __future__ import annotations

from collections.abc import Mapping

from bench.audit.catalogue import artefacts, comparison, kernels, machines, models, passes
from bench.audit.fault import AuditFault

FAULTS: Mapping[str, AuditFault] = {
    fault.name: fault
    for part in (passes, kernels, artefacts, machines, models, comparison)
    for fault in part.FAULTS
}
