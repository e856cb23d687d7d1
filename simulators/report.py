"""What a machine reports of one run: counters and findings."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Finding:
    """One thing a machine noticed that a device would hide; only an error makes a run a hazard."""

    kind: str
    severity: str
    where: str
    message: str


@dataclass
class Report:
    """Counters by name, and findings in the order they were made."""

    counters: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
