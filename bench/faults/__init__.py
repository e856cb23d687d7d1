"""Faults that the bench plants to prove that it can fail: by name, each in one artefact or layout step."""

from bench.faults.catalogue import FAULTS, Fault, fault_named

__all__ = ["FAULTS", "Fault", "fault_named"]
