"""The audit: named faults, each planted in the bench itself, and the check that has to catch it."""

from bench.audit.audit import Outcome, audit
from bench.audit.catalogue import FAULTS
from bench.audit.checks import CHECKS
from bench.audit.fault import SUBJECTS, AuditFault

__all__ = ["CHECKS", "FAULTS", "SUBJECTS", "AuditFault", "Outcome", "audit"]
