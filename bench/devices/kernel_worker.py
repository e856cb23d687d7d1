"""The process that runs single kernels on a machine: no TVM in it, so it starts in a fraction of a second.

It reads pickled requests from standard input and writes replies to standard output, each eight bytes of
length and a pickle; its only client is :class:`bench.devices.kernel_process.KernelProcess`, which started it.
"""

from __future__ import annotations

import os
import pickle
import sys
from typing import IO, Any

from bench.devices.ending import end_with_parent
from bench.devices.failure import DeviceFailure, crash
from bench.devices.machines import machine_for

LENGTH_BYTES = 8


def main() -> None:
    """Serve until standard input ends."""
    end_with_parent()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer
    target, device, files = pickle.load(requests)
    try:
        machine = machine_for(target, device)(files)
    except Exception as error:
        return _reply(replies, _failure(error))
    _reply(replies, {"hardware": machine.hardware})
    while True:
        try:
            kernel, arguments = pickle.load(requests)
        except EOFError:
            return machine.close()
        try:
            report = machine.call(kernel, arguments)
            _reply(replies, (arguments[-1], report))
        except Exception as error:
            _reply(replies, _failure(error))


def _failure(error: Exception) -> tuple[str, str]:
    failure = error if isinstance(error, DeviceFailure) else crash(f"{type(error).__name__}: {error}")
    return failure.verdict, str(failure)


def _reply(stream: IO[bytes], reply: Any) -> None:
    content = pickle.dumps(reply)
    stream.write(len(content).to_bytes(LENGTH_BYTES, "little") + content)
    stream.flush()


if __name__ == "__main__":
    main()
