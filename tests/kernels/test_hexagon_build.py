"""From TensorIR to an ELF: names, architectures, the demand for vrmpy, and the tool chain."""

import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm.s_tir import Schedule

from kernels.hexagon import build, object_cache, toolchain
from kernels.hexagon.architectures import ARCHITECTURES, built_architectures, probe_elf
from kernels.hexagon.build import (
    BuildError,
    build_elf,
    compile_object,
    hexagon_target,
    link_server,
)
from kernels.hexagon.dense import dense_primfunc, schedule_dense
from kernels.hexagon.machine_code import find_vrmpy
from kernels.hexagon.plain import plain_object
from simulators.hvx.qemu import FunctionServer, check_elf
from tests.simulators.hvx_guest import needs_qemu, needs_toolchain

SMALL = ((4, 8), (1, 2, 32, 4))


def small():
    return dense_primfunc(*SMALL)


@needs_qemu
@needs_toolchain
def test_one_elf_holds_functions_given_as_primfunc_module_and_schedule():
    scheduled = schedule_dense(small())
    functions = {"a_schedule": Schedule(small()), "a_module": tvm.IRModule({"f": scheduled})}
    elf = build_elf({**functions, "a_primfunc": scheduled})
    check_elf(elf)
    rng = np.random.default_rng(5)
    data = rng.integers(0, 256, SMALL[0]).astype(np.uint8)
    weight = rng.integers(0, 256, SMALL[1]).astype(np.int8)
    expected = data.astype(np.int32) @ weight.transpose(0, 2, 1, 3).reshape(32, 8).astype(np.int32).T
    with FunctionServer(elf, timeout=20) as server:
        assert server.functions == ("a_schedule", "a_module", "a_primfunc")
        for name in server.functions:
            out = np.zeros((4, 32), np.int32)
            server.call(name, [data, weight], out)
            assert np.array_equal(out, expected), name


@needs_qemu
@needs_toolchain
@pytest.mark.parametrize(
    ("data", "weight", "message"),
    [
        (np.zeros((4, 12), np.uint8), np.zeros(SMALL[1], np.int8), "data"),
        (np.zeros(SMALL[0], np.int8), np.zeros(SMALL[1], np.int8), "data"),
        (np.zeros(SMALL[0], np.uint8), np.zeros((1, 2, 32), np.int8), "weight"),
    ],
    ids=["shape", "dtype", "dimensions"],
)
def test_a_call_with_other_tensors_is_an_error_of_the_compiled_function(data, weight, message):
    from simulators.hvx.qemu import FunctionError

    with (
        FunctionServer(build_elf({"dense": schedule_dense(small())}), timeout=20) as server,
        pytest.raises(FunctionError, match=message) as raised,
    ):
        server.call("dense", [data, weight], np.zeros((4, 32), np.int32))
    assert raised.value.kind == "function-error"


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ({}, "no functions"),
        ({"1x1": small()}, "'1x1' cannot be the name of a function: it has to be a C identifier"),
        ({"a.b": small()}, "C identifier"),
        ({"f": "text"}, "'f' is a str, not a PrimFunc, an IRModule or a Schedule"),
        ({"f": tvm.IRModule({"a": small(), "b": small()})}, "holds 2 functions instead of one"),
    ],
    ids=["none", "digit-first", "dot", "text", "two-functions"],
)
def test_what_cannot_be_compiled_is_refused(functions, message):
    with pytest.raises(ValueError, match=message):
        build_elf(functions)


@pytest.mark.parametrize(
    "use", [hexagon_target, probe_elf, lambda a: compile_object("f", small(), architecture=a)]
)
def test_an_unknown_architecture_is_refused_with_the_known_ones(use):
    with pytest.raises(ValueError, match=r"unknown Hexagon architecture v60; there are v66, v67, v68"):
        use(60)


@needs_toolchain
@pytest.mark.parametrize("architecture", built_architectures() if toolchain.available() is None else ())
def test_each_architecture_is_built_and_linked_with_vrmpy_in_it(architecture):
    elf = build_elf({"dense": schedule_dense(small())}, architecture=architecture)
    check_elf(elf)
    assert {instruction.operation for instruction in find_vrmpy(elf)} == {"vrmpybusv_acc"}


@needs_toolchain
def test_two_builds_of_the_same_kernel_are_the_same_bytes_and_hold_no_path(monkeypatch, tmp_path):
    """Each is compiled anew, in temporary folders of its own."""
    built = []
    for place in ("here", "elsewhere"):
        folder = tmp_path / place
        folder.mkdir()
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        monkeypatch.chdir(folder)
        built.append(build_elf({"dense": schedule_dense(small())}))
        assert len(object_cache.entries()) == 3
    assert built[0] == built[1]
    roots = (tmp_path, Path.cwd(), Path.home(), toolchain.RUNTIME, Path(tempfile.gettempdir()))
    assert [root for root in roots if str(root).encode() in built[0]] == []
    assert re.findall(rb"/[A-Za-z][\w.-]*/[\w./-]+", built[0]) == []
    assert b"bitexact-" not in built[0]
    assert b".debug_" not in built[0]


def test_an_object_without_the_vrmpy_that_was_asked_for_is_an_error(monkeypatch):
    monkeypatch.setattr(build, "find_vrmpy", lambda elf: [])
    with pytest.raises(BuildError, match="holds no vrmpy, although dense asks for it"):
        compile_object("dense", schedule_dense(small()))
    compile_object("plain", small())


def test_the_plain_description_holds_no_vrmpy():
    assert find_vrmpy(compile_object("plain", small())) == []


# ---- the tool chain ----


@needs_toolchain
def test_what_the_compiler_or_linker_refuses_is_reported_with_its_words():
    with pytest.raises(toolchain.ToolchainError, match="expected"):
        toolchain.compile_c("int f(void) {")
    with pytest.raises(toolchain.ToolchainError, match="missing_function"):
        link_server([toolchain.compile_c("")], ["missing_function"])


def test_a_missing_tool_chain_names_the_command_that_installs_one(monkeypatch):
    toolchain._tools.cache_clear()
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(toolchain.shutil, "which", lambda name: None)
    try:
        assert "python -m pip install ziglang" in str(toolchain.available())
        with pytest.raises(toolchain.ToolchainError, match="apt-get install clang lld"):
            toolchain.compile_c("")
    finally:
        toolchain._tools.cache_clear()


# ---- clang and lld in place of ziglang ----

needs_clang = pytest.mark.skipif(
    not (shutil.which("clang") and shutil.which("ld.lld")),
    reason="clang or lld not found: apt-get install clang lld",
)


@pytest.fixture
def without_ziglang(monkeypatch, tmp_path):
    """A machine where the package ziglang is not installed, with an empty cache of objects."""
    find = toolchain.importlib.util.find_spec
    monkeypatch.setattr(
        toolchain.importlib.util, "find_spec", lambda name: None if name == "ziglang" else find(name)
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for cached in (toolchain._tools, built_architectures, probe_elf):
        cached.cache_clear()
    yield
    for cached in (toolchain._tools, built_architectures, probe_elf):
        cached.cache_clear()


@needs_qemu
@needs_clang
@pytest.mark.usefixtures("without_ziglang")
@pytest.mark.parametrize("architecture", [66, 67])
def test_clang_and_lld_build_the_same_server(architecture):
    assert "clang version" in toolchain._tools()[0]
    elf = build_elf({"dense": schedule_dense(small())}, architecture=architecture)
    data, weight = np.full(SMALL[0], 200, np.uint8), np.full(SMALL[1], -3, np.int8)
    out = np.zeros((4, 32), np.int32)
    with FunctionServer(elf, timeout=20) as server:
        server.call("dense", [data, weight], out)
    assert (out == 8 * 200 * -3).all()


@needs_clang
@pytest.mark.usefixtures("without_ziglang")
def test_an_architecture_that_clang_does_not_know_is_not_among_those_that_are_built():
    """clang 14 ends at v69; each newer one is built where clang knows it."""
    known = built_architectures()
    assert known[:2] == (66, 67)
    for architecture in set(ARCHITECTURES) - set(known):
        with pytest.raises(toolchain.ToolchainError, match=f"hexagonv{architecture}"):
            probe_elf(architecture)


@needs_clang
@pytest.mark.usefixtures("without_ziglang")
def test_clang_compiles_the_plain_code_of_the_host():
    assert b"bitexact_hvx_vaddw" in plain_object()


@pytest.mark.usefixtures("without_ziglang")
def test_clang_without_lld_is_no_tool_chain(monkeypatch):
    monkeypatch.setattr(toolchain.shutil, "which", lambda name: "/usr/bin/clang" if name == "clang" else None)
    assert "apt-get install clang lld" in str(toolchain.available())
