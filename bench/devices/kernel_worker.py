"""The process that runs single kernels on a machine.

There is no TVM in it, unless the machine is behind a server, so it starts in a fraction of a second.

It reads pickled requests from standard input and writes replies to standard output, each eight bytes of
length and a pickle; its only client is :class:`bench.devices.kernel_process.KernelProcess`, which started it.
"""

from __future__ import annotations

import os
import pickle
import sys
from typing import IO, TYPE_CHECKING, Any

from bench.devices.ending import end_with_parent
from bench.devices.failure import DeviceFailure, crash
from bench.devices.machines import Machine, machine_for
from bench.devices.names import parse_remote

if TYPE_CHECKING:
    from bench.devices.remote_machine import RemoteMachine

LENGTH_BYTES = 8


def main() -> None:
    """Serve until standard input ends."""
    end_with_parent()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer
    target, device, files, seconds = pickle.load(requests)
    try:
        machine = _machine(target, device, files, seconds)
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


def _machine(target: str, device: str, files: dict[str, bytes], seconds: float) -> Machine | RemoteMachine:
    remote = parse_remote(device)
    if remote is None:
        return machine_for(target, device)(files)
    from bench.devices.remote_machine import RemoteMachine

    return RemoteMachine(remote, target, files, seconds=seconds)


def _failure(error: Exception) -> tuple[str, str]:
    failure = error if isinstance(error, DeviceFailure) else crash(f"{type(error).__name__}: {error}")
    return failure.verdict, str(failure)


def _reply(stream: IO[bytes], reply: Any) -> None:
    content = pickle.dumps(reply)
    stream.write(len(content).to_bytes(LENGTH_BYTES, "little") + content)
    stream.flush()


if __name__ == "__main__":
    main()
