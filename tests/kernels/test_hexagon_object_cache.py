"""The cache of compiled objects: what an entry depends on, damage, and several processes at once."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tvm
import tvm_ffi

from kernels.hexagon import build, object_cache, toolchain
from kernels.hexagon.build import compile_object
from kernels.hexagon.elementwise import schedule_unary, unary_primfunc
from kernels.hexagon.object_cache import kept_or_built
from tests.simulators.hvx_guest import needs_toolchain

SOURCE = "int f(void) { return 1; }"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "bitexact" / "hexagon"


def relu(extent: int = 128):
    return schedule_unary(unary_primfunc("relu", (extent,), "int8"))


def never() -> bytes:
    pytest.fail("it was built again")


def test_an_object_is_built_once_for_all_that_it_depends_on(cache):
    assert object_cache.directory() == cache
    assert kept_or_built(["a", "b"], lambda: b"one") == b"one"
    assert kept_or_built(["a", "b"], never) == b"one"
    assert len(object_cache.entries()) == 1


def test_texts_are_kept_apart():
    kept_or_built(["a", "b"], lambda: b"one")
    for other in (["ab"], ["a", "b", ""], ["b", "a"]):
        assert kept_or_built(other, lambda: b"two") == b"two"


def test_without_the_variable_the_cache_is_in_the_home_directory(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert object_cache.directory() == tmp_path / ".cache" / "bitexact" / "hexagon"


@pytest.mark.parametrize(
    "damage",
    [lambda entry: b"", lambda entry: entry[:20], lambda entry: entry[:-1], lambda entry: entry + b"x",
     lambda entry: entry[:40] + bytes([entry[40] ^ 1]) + entry[41:]],
    ids=["empty", "no-digest", "cut-short", "too-long", "a-bit"],
)  # fmt: skip
def test_a_damaged_entry_is_built_again_and_replaced(damage: Callable[[bytes], bytes]):
    content = bytes(range(200))
    kept_or_built(["a"], lambda: content)
    (entry,) = object_cache.entries()
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    assert kept_or_built(["a"], lambda: content) == content
    assert entry.read_bytes() == whole
    assert kept_or_built(["a"], never) == content


def test_an_entry_appears_whole_or_not_at_all(cache, monkeypatch):
    def interrupted(source: str, target: Path) -> None:
        assert Path(source).read_bytes().endswith(b"content")
        assert not target.exists()
        raise OSError("no more space")

    monkeypatch.setattr(object_cache.os, "replace", interrupted)
    assert kept_or_built(["a"], lambda: b"content") == b"content"
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "bitexact").write_text("a file, not a directory")
    assert kept_or_built(["a"], lambda: b"one") == b"one"
    assert kept_or_built(["a"], lambda: b"two") == b"two"


KEEPING = """
import sys
from kernels.hexagon.object_cache import kept_or_built

begin = int(sys.argv[1])
for key in [*range(begin, 8), *range(begin)] * 20:
    assert kept_or_built([str(key)], lambda: bytes([key]) * 100_000) == bytes([key]) * 100_000
"""


def test_processes_share_a_directory():
    """Each keeps and reads the same entries, and begins with another."""
    started = [subprocess.Popen([sys.executable, "-c", KEEPING, str(begin)]) for begin in (0, 4)]
    assert [process.wait() for process in started] == [0, 0]
    assert len(object_cache.entries()) == 8


# ---- what the objects depend on ----


@needs_toolchain
def test_compiled_c_is_found_again(monkeypatch):
    first = toolchain.compile_c(SOURCE)
    monkeypatch.setattr(toolchain, "_run", lambda command: never())
    assert toolchain.compile_c(SOURCE) == first


@needs_toolchain
@pytest.mark.parametrize("change", [{"source": "int f(void) { return 2; }"}, {"architecture": 66}])
def test_other_c_is_compiled_anew(change):
    arguments = {"source": SOURCE, "architecture": 67}
    first = toolchain.compile_c(**arguments)
    assert toolchain.compile_c(**{**arguments, **change}) != first


@needs_toolchain
def test_c_is_compiled_anew_by_another_compiler(monkeypatch):
    identity, *commands = toolchain._tools()
    toolchain.compile_c(SOURCE)
    monkeypatch.setattr(toolchain, "_tools", lambda: (f"{identity}.1", *commands))
    toolchain.compile_c(SOURCE)
    assert len(object_cache.entries()) == 2


def test_a_function_is_compiled_once(monkeypatch):
    first = compile_object("relu", relu())
    monkeypatch.setattr(build.tvm, "compile", lambda *a, **k: never())
    assert compile_object("relu", relu()) == first
    assert len(object_cache.entries()) == 1


CHANGES = {
    "function": {"kernel": relu(256)},
    "name": {"name": "other"},
    "architecture": {"architecture": 66},
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_function_name_or_architecture_is_compiled_anew(change):
    arguments = {"name": "relu", "kernel": relu(), "architecture": 67}
    compile_object(**arguments)
    compile_object(**{**arguments, **CHANGES[change]})
    assert len(object_cache.entries()) == 2


def test_options_of_the_compiler_make_another_object():
    compile_object("relu", relu())
    with tvm.transform.PassContext(opt_level=0):
        compile_object("relu", relu())
    assert len(object_cache.entries()) == 2


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (tvm, "__version__", "0.28.0"),
        (tvm_ffi, "__version__", "0.2.0"),
        (tvm.target.codegen, "llvm_version_major", lambda allow_none: 99),
    ],
    ids=["TVM", "TVM-FFI", "LLVM"],
)
def test_a_new_version_of_the_compiler_makes_another_object(monkeypatch, module, name, value):
    compile_object("relu", relu())
    monkeypatch.setattr(module, name, value)
    compile_object("relu", relu())
    assert len(object_cache.entries()) == 2


def test_a_compiler_that_was_built_anew_makes_another_object(monkeypatch, tmp_path):
    library = tmp_path / "tvm" / "lib" / "libtvm_compiler.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"one")
    monkeypatch.setattr(tvm, "__file__", str(tmp_path / "tvm" / "__init__.py"))
    compile_object("relu", relu())
    library.write_bytes(b"other")
    compile_object("relu", relu())
    assert len(object_cache.entries()) == 2


def test_the_library_that_counts_is_there():
    assert any("libtvm_compiler" in text for text in build._compiler())
