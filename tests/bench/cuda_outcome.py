"""Run the proof of the tensor-core kernels on this computer's GPU, and keep what came of it.

``python -m tests.bench.cuda_outcome`` writes docs/cuda/NAME-OF-THE-GPU.md; exit status 0 only where all is
exact.
"""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from tabulate import tabulate

from bench.compare.verdict import Verdict
from bench.devices.cuda.probe import probe
from bench.versions import versions
from tests.bench.tensorcore_proof import CASES, Case

FOLDER = Path(__file__).parents[2] / "docs" / "cuda"


def main(arguments: Iterable[str] | None = None, cases: Mapping[str, Case] = CASES) -> int:
    """Run all cases and write the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cuda_outcome")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the page goes (default docs/cuda)")
    options = parser.parse_args(arguments if arguments is None else list(arguments))
    found = probe()
    if found.hardware is None:
        print(f"cuda_outcome: {found.missing}", file=sys.stderr)
        return 1
    verdicts = {}
    for number, (name, case) in enumerate(cases.items(), 1):
        verdicts[name] = case("cuda")
        print(f"{number} of {len(cases)}: {name}: {verdicts[name].verdict}", file=sys.stderr)
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / f"{re.sub(r'[^A-Za-z0-9]+', '-', found.hardware.split(',')[0]).strip('-')}.md"
    path.write_text(page(found.hardware, verdicts))
    print(path)
    return 0 if all(verdict.exact for verdict in verdicts.values()) else 1


def page(hardware: str, verdicts: Mapping[str, Verdict]) -> str:
    """The outcome as Markdown."""
    exact = sum(verdict.exact for verdict in verdicts.values())
    rows = [
        [
            name,
            verdict.verdict,
            f"{verdict.counters['device_nanoseconds'] / 1000:.1f}" if verdict.counters else "-",
            (verdict.reason or "").splitlines()[0] if verdict.reason else "",
        ]
        for name, verdict in verdicts.items()
    ]
    table = tabulate(rows, headers=["case", "verdict", "µs on the GPU, first launch", "reason"],
                     tablefmt="github", disable_numparse=True)  # fmt: skip
    used = ", ".join(f"{name} {version}" for name, version in versions().items())
    return (
        f"# {hardware}\n\n"
        f"{exact} of {len(verdicts)} exact, {datetime.datetime.now(datetime.UTC).date()}, by "
        f"`python -m tests.bench.cuda_outcome`; {used}.\n\n{table}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
