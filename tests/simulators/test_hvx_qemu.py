"""The client of functions under qemu-hexagon: calls, counters, and every way a guest can fail."""

import os
import re
import select
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

from kernels.hexagon import toolchain
from kernels.hexagon.architectures import built_architectures, probe_elf
from kernels.hexagon.machine_code import without_vrmpy
from simulators.hvx import qemu
from simulators.hvx.qemu import (
    CorruptElf,
    FunctionError,
    FunctionServer,
    ProtocolError,
    ServerCrash,
    ServerTimeout,
    check_elf,
    newest_architecture,
)
from tests.simulators.hvx_guest import guest, needs_qemu, needs_toolchain
from tests.simulators.test_child_process import wait_until_gone

pytestmark = [needs_toolchain]

FUNCTIONS = """
#define FUNCTION(name) i32 __tvm_ffi_##name(void *self, const any *a, i32 count, any *result)
#define UNUSED (void)self, (void)a, (void)count, (void)result
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, i32 count);
void *memcpy(void *to, const void *from, u32 count);
extern void *(*__TVMBackendAllocWorkspace)(i32, i32, u64, i32, i32);
void *(*__TVMBackendAllocWorkspace)(i32, i32, u64, i32, i32) __attribute__((weak));
i32 (*__TVMBackendParallelLaunch)(i32 (*)(i32, void *, void *), void *, i32) __attribute__((weak));

FUNCTION(copy) {
  UNUSED;
  u32 bytes = 1;
  tensor *from = a[0].value.tensor;
  for (i32 i = 0; i < from->ndim; i++) bytes *= (u32)from->shape[i];
  memcpy(a[1].value.tensor->data, from->data, bytes * (from->type.bits / 8));
  return 0;
}
/* Everything a function sees of its first argument, as int64. */
FUNCTION(describe) {
  UNUSED;
  tensor *t = a[0].value.tensor;
  i64 *out = a[1].value.tensor->data;
  *out++ = count, *out++ = a[0].type_index, *out++ = t->where.device_type, *out++ = t->where.device_id;
  *out++ = t->type.code, *out++ = t->type.bits, *out++ = t->type.lanes, *out++ = (i64)t->byte_offset;
  *out++ = (u32)t->data % 128, *out++ = t->ndim;
  for (i32 i = 0; i < t->ndim; i++) *out++ = t->shape[i];
  for (i32 i = 0; i < t->ndim; i++) *out++ = t->strides[i];
  return 0;
}
FUNCTION(leave_unwritten) { UNUSED; return 0; }
FUNCTION(refuse) {
  UNUSED;
  const char *parts[3] = {"expected 3", 0, ", got 4"};
  TVMFFIErrorSetRaisedFromCStrParts("ValueError", parts, 3);
  return -1;
}
FUNCTION(refuse_silently) { UNUSED; return -1; }
FUNCTION(overrun) { UNUSED; ((u8 *)a[1].value.tensor->data)[a[1].value.tensor->shape[0]] = 1; return 0; }
FUNCTION(underrun) { UNUSED; ((u8 *)a[1].value.tensor->data)[-1] = 1; return 0; }
FUNCTION(spoil_the_input) {
  UNUSED;
  ((u8 *)a[0].value.tensor->data)[a[0].value.tensor->shape[0]] = 1;
  return 0;
}
FUNCTION(read_null) { UNUSED; *(volatile u8 *)a[1].value.tensor->data = *(volatile u8 *)0; return 0; }
FUNCTION(hang) { UNUSED; for (;;) __asm__ volatile(""); }
FUNCTION(exit_with_3) {
  UNUSED;
  __asm__ volatile("{ r0 = #2\\n r1 = %0\\n r2 = #7 }\\n { r6 = #64 }\\n trap0(#1)\\n"
                   "{ r0 = #3\\n r6 = #94 }\\n trap0(#1)"
                   ::"r"("no good") : "r0", "r1", "r2", "r6", "memory");
  return 0;
}
FUNCTION(workspace) {
  UNUSED;
  u8 *block = __TVMBackendAllocWorkspace(1, 0, 200, 1, 8), *out = a[1].value.tensor->data;
  for (i32 i = 0; i < 200; i++) out[i] = block[i], block[i] = 0;
  return (u32)block % 128;
}
FUNCTION(workspace_of_4_gib) {
  UNUSED;
  return __TVMBackendAllocWorkspace(1, 0, 1ull << 32, 1, 8) == 0 ? -1 : 0;
}
static i32 task(i32 index, void *environment, void *out) {
  u8 *bytes = out;
  bytes[bytes[0]++] = (u8)index;
  bytes[31] = (u8)((i32 *)environment)[1];
  return 0;
}
FUNCTION(parallel) {
  UNUSED;
  u8 *out = a[1].value.tensor->data;
  for (i32 i = 1; i < 32; i++) out[i] = 0;
  out[0] = 1;
  return __TVMBackendParallelLaunch(task, out, 0);
}
/* As many rows of one vrmpy as the first argument has bytes; the last store takes the new value. */
FUNCTION(vrmpy) {
  UNUSED;
  i32 rows = (i32)a[0].value.tensor->shape[0];
  __asm__ volatile("loop0(1f, %0)\\n1: { v0.uw += vrmpy(v1.ub, v2.ub)\\n vmem(%1+#0) = v0.new }:endloop0"
                   ::"r"(rows), "r"(a[1].value.tensor->data) : "v0", "memory", "lc0", "sa0");
  return 0;
}
"""
NAMES = re.findall(r"^FUNCTION\((\w+)\)", FUNCTIONS, re.MULTILINE)


@pytest.fixture(scope="module")
def elf() -> bytes:
    return guest(FUNCTIONS, NAMES)


@pytest.fixture(scope="module")
def server(elf):
    if qemu.available() is not None:
        pytest.skip(str(qemu.available()))
    with FunctionServer(elf, timeout=30) as running:
        yield running


def small() -> np.ndarray:
    return np.arange(32, dtype=np.uint8)


def is_running(pid: int) -> bool:
    """Whether there is such a process, be it only as a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def address_of(elf: bytes, symbol: str) -> int:
    """The address of a symbol in the symbol table of an ELF."""
    (sections,), (entry, count) = struct.unpack_from("<I", elf, 32), struct.unpack_from("<2H", elf, 46)
    headers = [struct.unpack_from("<10I", elf, sections + entry * i) for i in range(count)]
    table = next(header for header in headers if header[1] == 2)  # SHT_SYMTAB
    names = headers[table[6]][4]
    for at in range(table[4], table[4] + table[5], 16):
        name, value = struct.unpack_from("<2I", elf, at)
        if elf[names + name :].startswith(symbol.encode() + b"\0"):
            return value
    raise KeyError(symbol)


# ---- calls ----


def test_the_functions_are_named_in_the_order_of_the_table(server):
    assert server.functions == tuple(NAMES)


@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.float32, np.float64]
)
def test_a_function_sees_the_tensor_it_was_given(server, dtype):
    out = np.zeros(16, np.int64)
    server.call("describe", [np.zeros((2, 3, 5), dtype)], out)
    kind, bits = {"i": 0, "u": 1, "f": 2}[np.dtype(dtype).kind], np.dtype(dtype).itemsize * 8
    assert out.tolist() == [2, 7, 1, 0, kind, bits, 1, 0, 0, 3, 2, 3, 5, 15, 5, 1]


@pytest.mark.parametrize("megabytes", [0.001, 1, 48])
def test_tensors_far_larger_than_a_pipe_pass_in_both_directions(server, megabytes):
    sent = np.random.default_rng(3).integers(0, 256, int(megabytes * 2**20), dtype=np.uint8)
    received = np.zeros_like(sent)
    server.call("copy", [sent], received)
    assert np.array_equal(sent, received)


def test_what_a_function_leaves_unwritten_is_poison(server):
    out = np.zeros(32, np.uint8)
    server.call("leave_unwritten", [small()], out)
    assert (out == 0xA5).all()


def test_workspace_is_poisoned_again_for_each_call_and_aligned(server):
    for _ in range(2):
        out = np.zeros(200, np.uint8)
        server.call("workspace", [small()], out)
        assert (out == 0xA5).all()


def test_parallel_tasks_all_run_the_last_one_first(server):
    out = np.zeros(32, np.uint8)
    server.call("parallel", [small()], out)
    assert out[:6].tolist() == [5, 3, 2, 1, 0, 0]
    assert out[31] == 4


def test_parallel_tasks_are_shuffled_by_a_seed(elf, server):
    orders = set()
    for seed in (1, 2, 3, 4, 5):
        out = np.zeros(32, np.uint8)
        with FunctionServer(elf, timeout=30) as shuffled:
            shuffled.shuffle_tasks(seed)
            shuffled.call("parallel", [small()], out)
        assert sorted(out[1:5].tolist()) == [0, 1, 2, 3]
        orders.add(tuple(out[1:5].tolist()))
    assert len(orders) > 2
    with pytest.raises(ValueError, match="a seed is 0"):
        server.shuffle_tasks(-1)


# ---- tensors that stay ----


def test_resident_tensors_are_used_by_any_number_of_calls(elf):
    if qemu.available() is not None:
        pytest.skip(str(qemu.available()))
    data = np.arange(300, dtype=np.int32).reshape(3, 100)
    with FunctionServer(elf, timeout=30) as server:
        first = server.upload(data)
        second, third = (server.allocate(data.shape, np.int32) for _ in range(2))
        assert (server.download(second).view(np.uint8) == 0xA5).all()
        counters = server.call_resident("copy", [first, second])
        assert counters == server.call_resident("copy", [second, third])
        assert np.array_equal(server.download(third), data)
        out = np.zeros_like(data)
        assert server.call("copy", [data], out) == counters
        assert np.array_equal(server.download(first), data)
        server.call_resident("leave_unwritten", [first, third])
        assert (server.download(third).view(np.uint8) == 0xA5).all()


def test_a_function_that_fails_on_resident_tensors_leaves_them(elf):
    if qemu.available() is not None:
        pytest.skip(str(qemu.available()))
    with FunctionServer(elf, timeout=30) as server:
        kept, out = server.upload(small()), server.allocate((32,), np.uint8)
        with pytest.raises(FunctionError, match="expected 3, got 4"):
            server.call_resident("refuse", [kept, out])
        with pytest.raises(FunctionError, match="wrote outside argument 1"):
            server.call_resident("overrun", [kept, out])
        server.call_resident("copy", [kept, out])  # what was overwritten around the tensors is poison again
        assert np.array_equal(server.download(kept), small())


def test_handles_that_are_not_valid_are_refused(elf, server):
    mine = server.upload(small())
    with FunctionServer(elf, timeout=30) as other, pytest.raises(ValueError, match="another server's"):
        other.call_resident("copy", [mine, mine])
    server.release()
    with pytest.raises(ValueError, match="was released"):
        server.download(mine)
    with pytest.raises(ValueError, match="no room for 2147483648 bytes"):
        server.allocate((2**31,), np.uint8)
    with pytest.raises(ValueError, match="at least 1"):
        server.allocate((0,), np.uint8)
    with pytest.raises(ValueError, match="0 tensors"):
        server.call_resident("copy", [])
    with pytest.raises(ValueError, match="no function"):
        server.call_resident("nonsense", [])


# ---- counters ----


def test_counters_are_of_one_call_and_the_same_every_time(server):
    first, second, third = (server.call("copy", [small()], small()) for _ in range(3))
    assert first == second == third
    assert 0 < first["packets"] <= first["instructions"] < 2000
    assert first["hvx_instructions"] == 0
    assert server.call("copy", [np.zeros(64, np.uint8)], np.zeros(64, np.uint8))["packets"] > first["packets"]


@pytest.mark.parametrize("rows", [1, 2, 1000])
def test_executed_vrmpy_are_counted_exactly(elf, rows):
    if qemu.available() is not None:
        pytest.skip(str(qemu.available()))
    with FunctionServer(elf, without_vrmpy=without_vrmpy(elf), timeout=30) as counting:
        counters = counting.call("vrmpy", [np.zeros(rows, np.uint8)], np.zeros(32, np.int32))
        assert counters["vrmpy"] == rows
        assert counters["hvx_instructions"] == 2 * rows
        assert counting.call("copy", [small()], small())["vrmpy"] == 0
    with FunctionServer(elf, without_vrmpy=without_vrmpy(elf), timeout=30) as counting:
        tensors = [counting.upload(np.zeros(rows, np.uint8)), counting.allocate((32,), np.int32)]
        assert counting.call_resident("vrmpy", tensors)["vrmpy"] == rows


# ---- a function that fails, on a server that goes on ----


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("refuse", "function-error", "ValueError: expected 3, got 4"),
        ("refuse_silently", "function-error", "without a message"),
        ("overrun", "out-of-bounds", "wrote outside argument 1"),
        ("underrun", "out-of-bounds", "wrote outside argument 0, 1"),
        ("spoil_the_input", "out-of-bounds", "wrote outside argument 0"),
        ("workspace_of_4_gib", "function-error", "MemoryError"),
    ],
)
def test_a_function_that_fails_says_so_and_the_server_goes_on(server, name, kind, message):
    with pytest.raises(FunctionError, match=message) as raised:
        server.call(name, [np.zeros(128, np.uint8)], np.zeros(128, np.uint8))
    assert (raised.value.function, raised.value.kind) == (name, kind)
    out = np.zeros_like(small())
    server.call("copy", [small()], out)
    assert np.array_equal(out, small())


# ---- a guest that dies or hangs ----


@needs_qemu
@pytest.mark.parametrize(("name", "returncode"), [("read_null", -11), ("exit_with_3", 3)])
def test_a_guest_that_dies_is_a_crash_with_its_status_and_last_output(elf, name, returncode):
    server = FunctionServer(elf, timeout=30)
    pid = server._process.pid
    with pytest.raises(ServerCrash, match=f"while executing {name}") as raised:
        server.call(name, [small()], small())
    assert raised.value.returncode == returncode
    if name == "exit_with_3":
        assert raised.value.stderr == "no good"
    else:
        said = re.fullmatch(
            r"read_null: program counter (0x[0-9a-f]{8}) in __tvm_ffi_read_null\+0x\w+, address 0x00000000",
            raised.value.stderr,
        )
        assert said is not None
        assert 0 <= int(said[1], 16) - address_of(elf, "__tvm_ffi_read_null") < 64
    assert server.closed
    assert not is_running(pid)
    with pytest.raises(ValueError, match="is closed"):
        server.call("copy", [small()], small())


@needs_qemu
def test_a_guest_that_dies_while_it_is_sent_a_large_tensor_is_a_crash(elf):
    server = FunctionServer(elf, timeout=30)
    server._process.kill()
    with pytest.raises(ServerCrash, match="SIGKILL"):
        server.call("copy", [np.zeros(2**24, np.uint8)], np.zeros(2**24, np.uint8))


@needs_qemu
def test_a_guest_that_hangs_is_killed_after_the_timeout(elf):
    server = FunctionServer(elf, timeout=2)
    pid = server._process.pid
    begin = time.monotonic()
    with pytest.raises(ServerTimeout, match=r"did not answer within 2 s while executing hang") as raised:
        server.call("hang", [small()], small())
    said = re.fullmatch(
        r"hang: program counter (0x[0-9a-f]{8}) in __tvm_ffi_hang\+0x\w+", raised.value.stderr
    )
    assert said is not None
    assert 0 <= int(said[1], 16) - address_of(elf, "__tvm_ffi_hang") < 64
    assert time.monotonic() - begin < 20
    assert server.closed
    assert not is_running(pid)


@needs_qemu
def test_closing_ends_the_process_and_removes_its_files(elf):
    with FunctionServer(elf, timeout=30) as server:
        pid, directory = server._process.pid, server._directory.name
        assert is_running(pid)
        assert os.path.isdir(directory)
    assert not is_running(pid)
    assert not os.path.exists(directory)
    server.close()


@needs_qemu
def test_a_server_that_was_forgotten_ends_too(elf):
    server = FunctionServer(elf, timeout=30)
    pid = server._process.pid
    del server
    assert not is_running(pid)


CLIENT = """
import sys
import numpy as np
from simulators.hvx.qemu import FunctionServer
with open(sys.argv[1], "rb") as file:
    server = FunctionServer(file.read(), timeout=60)
receive = server._receive
def announced(*arguments):
    print(server._process.pid, flush=True)  # the call has been sent
    return receive(*arguments)
server._receive = announced
server.call("hang", [np.zeros(1, np.uint8)], np.zeros(1, np.uint8))
"""


@needs_qemu
def test_a_guest_that_hangs_does_not_outlive_a_process_that_is_killed(elf, tmp_path):
    (tmp_path / "elf").write_bytes(elf)
    with subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(tmp_path / "elf")], stdout=subprocess.PIPE, text=True
    ) as client:
        emulator = os.pidfd_open(int(client.stdout.readline()))
        client.kill()
    ended, _, _ = select.select([emulator], [], [], 20)
    if not ended:
        signal.pidfd_send_signal(emulator, signal.SIGKILL)
    os.close(emulator)
    assert ended


# ---- what is not a server ----


@needs_qemu
def test_an_elf_that_ends_at_once_is_a_crash_while_starting():
    with pytest.raises(ServerCrash, match="ended with status 67 while starting"):
        FunctionServer(probe_elf(67), timeout=30)


@needs_qemu
@pytest.mark.parametrize(
    "change",
    [("PROTOCOL_VERSION 2u", "PROTOCOL_VERSION 3u"), ("0x56585648u", "0x12345678u")],
    ids=["version", "magic"],
)
def test_another_protocol_is_refused(change):
    source = (toolchain.RUNTIME / "server.c").read_text()
    assert change[0] in source
    table = """
    #include "server.h"
    const named_function function_table[] = {{0, 0}};
    const u32 function_count = 0;
    """
    other = toolchain.link([toolchain.compile_c(source.replace(*change)), toolchain.compile_c(table)])
    with pytest.raises(ProtocolError, match="this client speaks 0x56585648 version 2"):
        FunctionServer(other, timeout=30)


def test_the_server_and_the_client_state_the_same_protocol():
    source = (toolchain.RUNTIME / "server.c").read_text()
    assert f"PROTOCOL_MAGIC {qemu.PROTOCOL_MAGIC:#x}u" in source
    assert f"PROTOCOL_VERSION {qemu.PROTOCOL_VERSION}u" in source
    assert f"MAX_TENSORS {qemu.MAX_TENSORS}\n" in source
    assert f"MAX_DIMENSIONS {qemu.MAX_DIMENSIONS}\n" in source
    assert f"MAX_RESIDENTS {qemu.MAX_RESIDENTS}\n" in source


def test_without_qemu_the_reason_names_the_command_that_installs_it(monkeypatch, elf):
    monkeypatch.setenv("PATH", "")
    assert qemu.available() == "qemu-hexagon not found: apt-get install qemu-user"
    with pytest.raises(FileNotFoundError, match="apt-get install qemu-user"):
        FunctionServer(elf)
    assert newest_architecture({67: b""}) is None


@needs_qemu
def test_the_newest_architecture_is_found_by_running_one_elf_for_each():
    probes = {version: probe_elf(version) for version in built_architectures()}
    newest = newest_architecture(probes)
    assert newest is not None
    assert newest >= 67
    assert newest_architecture({66: probes[66]}) == 66
    assert newest_architecture({99: probes[66]}) is None  # runs, but is not what it was said to be


@needs_qemu
def test_a_simulator_that_runs_the_architecture_is_not_missing():
    assert qemu.why_not_running((67, probe_elf(67))) is None
    assert re.match(r"\d+\.\d+", qemu.version())


def test_a_simulator_that_is_too_old_says_its_version_and_what_to_type(monkeypatch, tmp_path):
    old = tmp_path / qemu.PROGRAM
    old.write_text(
        "#!/bin/sh\n"
        '[ "$1" = --version ] && echo "qemu-hexagon version 5.1.0 (Debian 1:5.1)" && exit 0\n'
        "echo \"qemu-hexagon: unable to find CPU model 'unknown'\" >&2; exit 1\n"
    )
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    reason = qemu.why_not_running((67, probe_elf(67)))
    assert reason == (
        "qemu-hexagon 5.1.0 (Debian 1:5.1) does not run Hexagon v67, as 7.2 does: apt-get install qemu-user"
    )
    old.write_text("#!/bin/sh\nexit 1\n")
    assert "qemu-hexagon of unknown version does not run" in str(qemu.why_not_running((67, probe_elf(67))))


def test_a_missing_simulator_is_missing_for_every_architecture(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert qemu.why_not_running((67, b"")) == "qemu-hexagon not found: apt-get install qemu-user"


def broken(elf: bytes, offset: int, form: str, value: int) -> bytes:
    changed = bytearray(elf)
    struct.pack_into("<" + form, changed, offset, value)
    return bytes(changed)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda elf: b"", "not an ELF file: 0 bytes"),
        (lambda elf: b"\x7fELF", "not an ELF file: 4 bytes"),
        (lambda elf: b"MZ" + elf[2:], "not an ELF file"),
        (lambda elf: broken(elf, 4, "B", 2), "not a 32-bit little-endian"),
        (lambda elf: broken(elf, 18, "H", 62), "machine 62; Hexagon is 164"),
        (lambda elf: broken(elf, 16, "H", 1), "type 1; an executable is 2"),
        (lambda elf: elf[: len(elf) // 2], "cut short"),
        (lambda elf: elf[:-1], "cut short"),
        (lambda elf: broken(elf, 42, "H", 8), "program headers"),
        (lambda elf: broken(elf, 24, "I", 4), "entry point 0x4 is in no executable segment"),
        (lambda elf: broken(elf, 44, "H", 0), "in no executable segment"),
    ],
    ids=[
        "empty", "only-magic", "other-magic", "64-bit", "x86", "relocatable", "half", "last-byte-missing",
        "small-headers", "entry-outside", "no-segments",
    ],
)  # fmt: skip
def test_a_corrupt_elf_is_refused_before_it_is_run(elf, damage, message, monkeypatch):
    check_elf(elf)
    monkeypatch.setattr(qemu.subprocess, "Popen", lambda *a, **k: pytest.fail("it was run"))
    with pytest.raises(CorruptElf, match=message):
        FunctionServer(damage(elf))


# ---- a call that cannot be sent ----


@pytest.mark.parametrize(
    ("name", "inputs", "output", "message"),
    [
        ("nonsense", [small()], small(), "no function 'nonsense' in this ELF; there are copy, describe"),
        ("copy", [small()[::2]], small(), "tensor 0 of shape .* has to be C-contiguous"),
        ("copy", [small().astype(">i4")], small(), "tensor 0 is >i4"),
        ("copy", [small().astype(complex)], small(), "tensor 0 is complex128; integers and floats"),
        ("copy", [np.uint8(1).reshape(())], small(), "1 to 8 dimensions"),
        ("copy", [np.zeros(0, np.uint8)], small(), "not empty"),
        ("copy", [small()] * 16, small(), "17 tensors; a call takes at most 16"),
        ("copy", [small()], np.broadcast_to(np.uint8(0), (2**30,)), "has to be C-contiguous"),
        ("copy", [np.zeros(2**30, np.uint8)], small(), "of the guest's 1073741824"),
    ],
    ids=["name", "strided", "big-endian", "complex", "scalar", "empty", "too-many", "broadcast", "too-large"],
)
def test_a_call_that_cannot_be_sent_is_refused_and_the_server_goes_on(server, name, inputs, output, message):
    with pytest.raises(ValueError, match=message):
        server.call(name, inputs, output)
    server.call("copy", [small()], small())


def test_a_read_only_output_is_refused(server):
    output = small()
    output.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        server.call("copy", [small()], output)


CLIENT = """
import sys
from pathlib import Path
import numpy as np
from simulators.hvx.qemu import FunctionServer

server = FunctionServer(Path(sys.argv[1]).read_bytes(), timeout=600)
print(server._process.pid, flush=True)
server.call("hang", [np.zeros(4, np.int32)], np.zeros(4, np.int32))
"""


@needs_qemu
def test_a_guest_that_hangs_ends_with_its_client_when_that_is_killed(elf, tmp_path):
    (tmp_path / "guest.elf").write_bytes(elf)
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(tmp_path / "guest.elf")], stdout=subprocess.PIPE, text=True
    )
    guest_process = int(client.stdout.readline())
    time.sleep(0.5)  # it is in its endless loop
    assert is_running(guest_process)
    client.kill()
    client.wait()
    wait_until_gone(guest_process)


def test_a_simulator_that_does_not_say_its_version_is_not_waited_for(monkeypatch, tmp_path):
    monkeypatch.setattr(qemu, "VERSION_SECONDS", 0.2)
    silent = tmp_path / qemu.PROGRAM
    silent.write_text("#!/bin/sh\nexec sleep 1000\n")
    silent.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert qemu.version() == "of unknown version"
