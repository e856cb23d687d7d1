"""A regression spread over the servers of a tracker: how much sooner it ends with more of them.

    python examples/spread_over_servers.py [--servers 1 2 4] [--workloads digits unet_small ...]

Starts a tracker and servers on this machine, runs the same cases with each number of servers, and prints a
table. The servers share the processors of this machine, so the most that can be gained here is their number;
boards have processors of their own. "Cases at once" is what it is about: how many were under way on average.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tabulate import tabulate


@contextlib.contextmanager
def running(*command: str) -> Iterator[str]:
    """A ``bitexact`` command that serves; gives the last word of the line that says where."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield re.split(" ", process.stdout.readline().strip())[-1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def regression(device: str, workloads: list[str], report: Path) -> tuple[float, list[dict[str, Any]]]:
    """Run all cases; the seconds that it took, and the verdicts."""
    command = [sys.executable, "-m", "bench", "run", *workloads, "--image", "32", "--batch", "1"]
    started = time.perf_counter()
    subprocess.run(
        [*command, "--device", device, "--json", str(report), "--bundles", "none"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - started, json.loads(report.read_text())["verdicts"]


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--servers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--workloads", nargs="+", default=["digits", "unet_small"])
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the servers, too
    rows: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as folder, running("tracker", "--port", "0") as tracker:
        for count in options.servers:
            key = f"of-{count}"
            with contextlib.ExitStack() as servers:
                for _ in range(count):
                    servers.enter_context(running("serve", "--tracker", tracker, "--key", key))
                seconds, verdicts = regression(
                    f"tracker://{tracker}/{key}", options.workloads, Path(folder, "run.json")
                )
            share = Counter(str(verdict["server"]) for verdict in verdicts)
            exact = sum(verdict["verdict"] == "exact" for verdict in verdicts)
            spread = ", ".join(map(str, sorted(share.values(), reverse=True)))
            at_once = sum(float(verdict["seconds"]) for verdict in verdicts) / seconds
            gain = rows[0][4] / seconds if rows else 1.0
            rows.append([count, f"{exact} of {len(verdicts)}", spread, at_once, seconds, gain])
            print(f"{count} servers: {seconds:.0f} s", file=sys.stderr, flush=True)
    headers = ["servers", "exact", "cases of each", "cases at once", "seconds", "times as fast"]
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    print(tabulate(rows, headers=headers, floatfmt=("", "", "", ".1f", ".0f", ".2f")))


if __name__ == "__main__":
    main()
