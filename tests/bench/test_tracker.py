"""TVM's tracker hands out servers: to many clients, with one in place of another that is lost."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import rpc

import bench
from bench.artifact import Artifact
from bench.devices import execution, server, session
from bench.devices.execution import execute
from bench.devices.failure import DeviceFailure
from bench.devices.names import Server, Tracked, parse_remote
from bench.flows.flow import flow_for
from bench.lowering import lower_for_machine
from bench.regression import jobs_for
from bench.reports.table import details, verdict_table
from tests.bench.integer_graphs import dense
from tests.bench.served import ROOT, Started, serving, started
from tests.bench.test_pipeline import graph

DATA = np.arange(8 * 16, dtype=np.int8).reshape(8, 16)
KEY = "board"


@pytest.fixture(scope="module")
def tracker() -> Iterator[str]:
    with started("tracker", "--port", "0") as running:
        yield running.address


@pytest.fixture(scope="module")
def only(tracker: str) -> Iterator[Started]:
    """The only server of its key."""
    with serving("--tracker", tracker, "--key", KEY) as running:
        yield running


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    """A dense layer for VTA's machine."""
    flow = flow_for("vta")
    transformed = bench.transform(dense(8, 16, 32, data_dtype="int8", scheme=flow.scheme), "vta")
    return lower_for_machine(transformed.mod, flow.machine_files(transformed), target="vta")


def failure_of(artifact: Artifact, device: str, *, seconds: float = 60) -> DeviceFailure:
    with pytest.raises(DeviceFailure) as caught:
        execute(artifact, {"data": DATA}, device=device, timeout_seconds=seconds)
    return caught.value


@pytest.mark.usefixtures("only")
def test_a_run_says_which_server_it_had(tracker: str) -> None:
    verdict = bench.run(*graph("vta"), "vta", f"tracker://{tracker}/{KEY}")
    assert (verdict.verdict, verdict.reason) == ("exact", None)
    assert verdict.server is not None
    assert verdict.server.startswith(f"{socket.gethostname()}:")
    assert (verdict.reruns, verdict.lost_server) == (0, None)


@pytest.mark.usefixtures("only")
def test_as_many_cases_run_at_once_as_there_are_servers(tracker: str) -> None:
    assert jobs_for(f"tracker://{tracker}/{KEY}") == 1
    assert jobs_for(f"tracker://{tracker}/nobody") == 1
    assert jobs_for("tracker://127.0.0.1:1/board") == 1
    assert jobs_for("sim") == 1
    with serving("--tracker", tracker, "--key", KEY):
        assert jobs_for(f"tracker://{tracker}/{KEY}") == 2


@pytest.mark.slow
def test_more_clients_than_servers_wait_for_each_other(
    artifact: Artifact, tracker: str, only: Started
) -> None:
    with serving("--tracker", tracker, "--key", KEY) as another:
        spread_over(artifact, tracker, [only, another])


def spread_over(artifact: Artifact, tracker: str, servers: list[Started]) -> None:
    run = partial(execute, artifact, device=f"tracker://{tracker}/{KEY}")
    inputs = [{"data": np.roll(DATA, shift)} for shift in range(4)]
    with ThreadPoolExecutor(4) as pool:
        executions = list(pool.map(run, inputs))
    expected = [execute(artifact, each, device="sim").outputs for each in inputs]
    for got, outputs in zip(executions, expected, strict=True):
        assert list(got.outputs) == list(outputs)
        for name, array in outputs.items():
            np.testing.assert_array_equal(got.outputs[name], array)
    names = {f"{socket.gethostname()}:{each.address.rpartition(':')[2]}" for each in servers}
    assert {each.server for each in executions} <= names


REGRESSION = """
import pytest
from bench.flows.flow import flow_for
from tests.bench.integer_graphs import dense

@pytest.mark.parametrize("columns", [16, 32, 48, 64])
def test_a_dense_layer(bitexact, columns):
    bitexact.run(dense(8, columns, 32, data_dtype="int8", scheme=flow_for("vta").scheme), target="vta")
"""


@pytest.mark.slow
def test_workers_of_pytest_share_the_servers(tracker: str, only: Started, tmp_path: Path) -> None:
    (tmp_path / "test_regression.py").write_text(REGRESSION)
    command = [
        *(
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "bench.pytest_plugin.plugin",
            "-p",
            "no:cacheprovider",
            "-n",
            "4",
        ),
        *("-q", f"--bitexact-device=tracker://{tracker}/{KEY}", "--junit-xml=report.xml", "."),
    ]
    with serving("--tracker", tracker, "--key", KEY):
        outcome = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert "4 passed" in outcome.stdout, outcome.stdout + outcome.stderr
    report = (tmp_path / "report.xml").read_text()
    assert report.count(f'name="bitexact.device" value="tracker://{tracker}/{KEY}"') == 4
    assert report.count(f'name="bitexact.server" value="{socket.gethostname()}:') == 4


def test_a_key_that_no_server_has_is_missing_at_once(artifact: Artifact, tracker: str) -> None:
    failure = failure_of(artifact, f"tracker://{tracker}/nobody")
    assert failure.verdict == "device-missing"
    assert f"no server of key 'nobody' at the tracker {tracker} (keys: " in str(failure)
    assert f"bitexact serve --tracker {tracker} --key nobody" in str(failure)


def test_no_tracker_is_a_missing_device_with_what_to_type(artifact: Artifact) -> None:
    failure = failure_of(artifact, "tracker://127.0.0.1:1/board")
    assert failure.verdict == "device-missing"
    assert "no RPC tracker at 127.0.0.1:1 (start one: bitexact tracker --port 1)" in str(failure)


@pytest.mark.usefixtures("only")
def test_servers_that_stay_busy_are_missing_after_the_limit(artifact: Artifact, tracker: str) -> None:
    host, port = tracker.split(":")
    held = rpc.connect_tracker(host, int(port)).request(KEY)
    failure = failure_of(artifact, f"tracker://{tracker}/{KEY}", seconds=2)
    del held
    assert failure.verdict == "device-missing"
    assert f"the only server of key 'board' at the tracker {tracker} was not free within 2 s" in str(failure)


def test_a_server_that_never_answers_is_a_timeout(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "CONNECT_SECONDS", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        device = f"rpc://127.0.0.1:{silent.getsockname()[1]}"
        failure = failure_of(artifact, device, seconds=3)
    assert failure.verdict == "timeout"
    assert str(failure) == f"{device} took longer than 4 s to connect"


# ---- servers that are lost ----


def dies(token: str, times: int) -> None:
    """In a server: its first so many sessions, of all servers with this token, die in their first kernel."""
    session.register(server=f"server of process {os.getpid()}")
    call = tvm.get_global_func(session.CALL)

    def die_or_call(*arguments: object) -> None:
        for number in range(times):
            try:
                Path(f"{token}{number}").mkdir()
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)
        call(*arguments)

    tvm.register_global_func(session.CALL, die_or_call, override=True)


@pytest.fixture
def mortal(tracker: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A key of two servers, whose first so many sessions die."""
    host, port = tracker.split(":")
    key = f"mortal{request.param}"
    servers = [
        rpc.Server(
            host="127.0.0.1",
            port=number,
            port_end=number + 1,
            tracker_addr=(host, int(port)),
            key=key,
            server_init_callback=partial(dies, str(tmp_path / "died"), request.param),
        )
        for number in (server._port_to_use("127.0.0.1", 0) for _ in range(2))
    ]
    # A server tells the tracker of itself after it has said that it listens.
    held = [rpc.connect_tracker(host, int(port)).request(key) for _ in servers]
    del held
    yield f"tracker://{tracker}/{key}"
    for each in servers:
        each.terminate()


@pytest.mark.parametrize("mortal", [1], indirect=True)
def test_a_server_that_dies_is_replaced_and_the_rerun_is_marked(mortal: str) -> None:
    verdict = bench.run(*graph("vta"), "vta", mortal)
    assert (verdict.verdict, verdict.reason) == ("exact", None)
    assert verdict.reruns == 1
    assert verdict.lost_server
    assert verdict.server != verdict.lost_server
    assert "exact (rerun)" in verdict_table([verdict])
    assert f"vta: run again on {verdict.server}, as the server {verdict.lost_server} was lost" in details(
        verdict
    )
    assert verdict.to_json()["reruns"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("mortal", [2], indirect=True)
def test_a_case_that_loses_two_servers_is_a_crash(mortal: str) -> None:
    verdict = bench.run(*graph("vta"), "vta", mortal)
    assert verdict.verdict == "crash"
    assert verdict.reruns == 1
    assert str(verdict.reason).count("was lost") == 2


@pytest.mark.slow
def test_a_server_that_dies_without_a_tracker_is_a_crash_that_names_it(
    artifact: Artifact, tmp_path: Path
) -> None:
    port = server._port_to_use("127.0.0.1", 0)
    mortal = rpc.Server(
        host="127.0.0.1",
        port=port,
        port_end=port + 1,
        server_init_callback=partial(dies, str(tmp_path / "died"), 1),
    )
    try:
        failure = failure_of(artifact, f"rpc://127.0.0.1:{port}")
    finally:
        mortal.terminate()
    assert failure.verdict == "crash"
    assert "the server server of process" in str(failure)
    assert "was lost" in str(failure)


def test_a_server_goes_on_after_a_session_was_killed(artifact: Artifact, tracker: str, only: Started) -> None:
    host, port = tracker.split(":")
    held = rpc.connect_tracker(host, int(port)).request(KEY)
    held.get_function(session.ABOUT)()  # the server accepts before it forks
    (victim,) = only.sessions()
    victim.kill()
    only.until("a session ended badly; the server was started again")
    assert execute(artifact, {"data": DATA}, device=f"tracker://{tracker}/{KEY}").server
    del held


def test_a_server_that_is_killed_leaves_no_process() -> None:
    with (
        subprocess.Popen(
            [sys.executable, "-m", "bench", "serve", "--port", "0"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        running = Started(process, "")
        port = running.until("^serving ").rpartition(":")[2]
        held = rpc.connect("127.0.0.1", int(port))
        held.get_function(session.ABOUT)()
        left = [os.pidfd_open(child.pid) for child in running.children]
        assert len(left) == 2  # the server and its session
        process.kill()
        process.wait()
        for each in left:
            assert select.select([each], [], [], 20)[0]
            os.close(each)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["serve", "tracker"])
def test_ctrl_c_at_a_terminal_ends_a_server_quietly(command: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "bench", command, "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        running = Started(process, "")
        port = running.until("^(serving|tracker at) ").rpartition(":")[2]
        if command == "serve":
            held = rpc.connect("127.0.0.1", int(port))
            held.get_function(session.ABOUT)()
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said


# ---- what a server serves ----


@pytest.mark.slow
def test_a_server_of_the_host_gets_plain_code() -> None:
    with serving("--device", "host") as running:
        verdict = bench.run(*graph("vta"), "vta", f"rpc://{running.address}")
    assert (verdict.verdict, verdict.reason, verdict.artifact) == ("exact", None, "host library")
    assert not verdict.counters


@pytest.mark.slow
def test_a_server_finds_the_driver_of_its_board(tracker: str) -> None:
    """Its sessions have a folder of their own, where a path from here would lead nowhere."""
    board = ("--device", "examples/vta_board_driver.py:Board")
    with serving(*board, "--tracker", tracker, "--key", "fabric"):
        verdict = bench.run(*graph("vta"), "vta", f"tracker://{tracker}/fabric")
    assert (verdict.verdict, verdict.reason) == ("exact", None)


def test_a_server_of_another_version_is_refused(artifact: Artifact) -> None:
    port = server._port_to_use("127.0.0.1", 0)
    old = rpc.Server(host="127.0.0.1", port=port, port_end=port + 1, server_init_callback=of_format_0)
    try:
        failure = failure_of(artifact, f"rpc://127.0.0.1:{port}")
    finally:
        old.terminate()
    assert failure.verdict == "device-missing"
    assert "the server old takes artefacts of format 0, and these are of format 1" in str(failure)


def of_format_0() -> None:
    tvm.register_global_func(
        session.ABOUT, lambda: '{"device": "sim", "server": "old", "format": 0}', override=True
    )


REMOTE = {
    "rpc://127.0.0.1:9090": Server("127.0.0.1", 9090),
    "rpc://[::1]:9090": Server("::1", 9090),
    "tracker://farm:9190/pixel-8": Tracked("farm", 9190, "pixel-8"),
    "rpc://127.0.0.1:9090/key": None,
    "rpc://127.0.0.1": None,
    "rpc://127.0.0.1:70000": None,
    "tracker://farm:9190": None,
    "tracker://farm:9190/": None,
    "tracker://farm:9190/a/b": None,
    "tracker://farm:9190/a:b": None,
    "tracker://farm:9190/a b": None,
    "sim": None,
}


@pytest.mark.parametrize("name", REMOTE)
def test_a_remote_device_is_named_by_its_address(name: str) -> None:
    assert parse_remote(name) == REMOTE[name]
