"""The process that judges batches, one line of JSON after the other.

Usage: ``python -m bench.fuzz.worker``. Its only client is :class:`bench.fuzz.pool.Judge`, which started it.
"""

from __future__ import annotations

import json
import os
import sys

from bench.fuzz.cases import Batch


def main() -> None:
    """Answer each line of standard input, a batch, by one line on standard output, its outcomes."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints by itself goes to standard error from now on
    from bench.fuzz.judging import judge

    for line in sys.stdin:
        outcomes = judge(Batch.from_json(json.loads(line)))
        print(json.dumps([outcome.to_json() for outcome in outcomes]), file=replies, flush=True)


if __name__ == "__main__":
    main()
