"""CUDA C++ to PTX: finding NVRTC, its errors, and what is known of a compiled kernel."""

import json

import pytest
from tvm import te
from tvm.s_tir import Schedule

from kernels.tensorcore import nvrtc
from kernels.tensorcore.dense import dense_primfunc, schedule_dense
from kernels.tensorcore.nvrtc import HEADERS, NvrtcError, compile_cuda, find_include_directories, find_library
from kernels.tensorcore.ptx import PtxKernel, compile_ptx


@pytest.fixture(scope="module")
def kernel():
    return compile_ptx(schedule_dense(dense_primfunc((8, 16), units=32)), name="layer")


def test_nvrtc_is_available_here():
    assert nvrtc.nvrtc_available() is None


def test_a_missing_library_is_told_with_the_install_line(monkeypatch, tmp_path):
    monkeypatch.setattr(nvrtc, "package_roots", lambda: (tmp_path,))
    assert nvrtc.nvrtc_available() == f"NVRTC is not installed: {nvrtc.INSTALL}"
    with pytest.raises(NvrtcError, match="NVRTC is not installed: pip install"):
        compile_cuda("", arch="sm_80")


def test_missing_headers_are_told_by_package(monkeypatch, tmp_path):
    (tmp_path / "cu13/lib").mkdir(parents=True)
    (tmp_path / "cu13/lib/libnvrtc.so.13").touch()
    monkeypatch.setattr(nvrtc, "package_roots", lambda: (tmp_path,))
    assert "mma.h (of nvidia-cuda-runtime), crt/mma.h (of nvidia-cuda-crt)" in nvrtc.nvrtc_available()


def test_a_library_that_does_not_load_is_told(monkeypatch, tmp_path):
    (tmp_path / "cu13/lib").mkdir(parents=True)
    (tmp_path / "cu13/lib/libnvrtc.so.13").write_text("no library")
    for header in HEADERS:
        (tmp_path / "cu13/include" / header).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cu13/include" / header).touch()
    monkeypatch.setattr(nvrtc, "package_roots", lambda: (tmp_path,))
    assert nvrtc.nvrtc_available().startswith("libnvrtc.so.13 cannot be loaded")


def test_both_layouts_of_the_wheels_are_searched(tmp_path):
    files = [
        "cuda_nvrtc/lib/libnvrtc.so.12",
        "cuda_nvrtc/lib/libnvrtc.alt.so.12",
        "cuda_runtime/include/mma.h",
        "cuda_nvcc/include/crt/mma.h",
        "cuda_cccl/include/nv/target",
        "cu13/include/cccl/cuda/std/cstdint",
        "cu13/lib/libnvrtc.so.13",
    ]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert find_library([tmp_path]) == tmp_path / "cu13/lib/libnvrtc.so.13"
    places, missing = find_include_directories([tmp_path])
    assert missing == []
    assert places["mma.h"] == tmp_path / "cuda_runtime/include"
    assert places["cuda/std/cstdint"] == tmp_path / "cu13/include/cccl"


def test_a_compile_error_shows_the_log():
    with pytest.raises(NvrtcError, match=r"(?s)faulty: .*faulty\.cu\(1\): error: .*missing"):
        compile_cuda('extern "C" __global__ void f() { missing(); }', arch="sm_80", name="faulty")


@pytest.mark.parametrize("arch", ["80", "compute_80", "sm_", "ampere"])
def test_an_architecture_is_spelled_sm(arch):
    with pytest.raises(ValueError, match="is not spelled like 'sm_80'"):
        compile_cuda("", arch=arch)


def test_the_architecture_reaches_the_text():
    text = compile_cuda('extern "C" __global__ void f() {}', arch="sm_90")
    assert ".target sm_90" in text
    assert ".entry f(" in text


def test_a_kernel_survives_json(kernel):
    assert PtxKernel.from_dict(json.loads(json.dumps(kernel.to_dict()))) == kernel


def test_buffers_are_put_in_the_order_of_the_entry_point(kernel):
    names = [argument.name for argument in kernel.arguments]
    assert kernel.in_kernel_order({"data": 1, "weight": 2, "out": 3}) == [
        {"data": 1, "weight": 2, "out": 3}[name] for name in names
    ]
    with pytest.raises(ValueError, match="layer_kernel takes data, weight, out; given are data, bias"):
        kernel.in_kernel_order({"data": 1, "bias": 2})


def test_the_entry_point_takes_one_pointer_for_each_argument(kernel):
    assert f".visible .entry {kernel.entry}(" in kernel.text
    assert kernel.text.count(f".param .u64 {kernel.entry}_param_") == len(kernel.arguments) == 3


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
def test_other_kernels_compile_as_well(dtype):
    a = te.placeholder((64,), dtype, name="a")
    sch = Schedule(te.create_prim_func([a, te.compute((64,), lambda i: a[i] + a[i], name="b")]))
    block, thread = sch.split(sch.get_loops(sch.get_sblock("b"))[0], [None, 16])
    sch.bind(block, "blockIdx.x")
    sch.bind(thread, "threadIdx.x")
    kernel = compile_ptx(sch.mod["main"], name="double", arch="sm_75")
    assert (kernel.grid, kernel.block) == ((4, 1, 1), (16, 1, 1))
    assert [argument.dtype for argument in kernel.arguments] == [dtype, dtype]
    assert ".target sm_75" in kernel.text


def test_a_function_that_is_not_scheduled_for_cuda_is_refused():
    a = te.placeholder((8,), "int32", name="a")
    function = te.create_prim_func([a, te.compute((8,), lambda i: a[i] + 1, name="b")])
    with pytest.raises(ValueError, match="plain lowers to 0 CUDA kernels: it must be scheduled as one"):
        compile_ptx(function, name="plain")
