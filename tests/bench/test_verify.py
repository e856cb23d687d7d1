"""Verifying a schedule of one's own: kernels in any form, references, verdicts, smallest operands."""

import time
from pathlib import Path

import numpy as np
import pytest
from tvm import te
from tvm.s_tir import Schedule

import bench
from bench.artifact import TensorSpec
from bench.cli import main
from bench.compare.smallest import shrink
from bench.devices.failure import DeviceFailure
from bench.devices.kernel_process import KernelProcess
from bench.pytest_plugin.fixture import Bitexact
from bench.verification.inputs import draw
from bench.verification.kernel import kernel_of
from kernels.hexagon.dense import dense_primfunc as hexagon_dense
from kernels.hexagon.dense import schedule_dense as schedule_hexagon
from kernels.tensorcore.dense import dense_primfunc, schedule_dense
from kernels.vta.dense import dense as vta_dense
from kernels.vta.tensorir import dense_primfunc as vta_plain

EPILOGUE = [("shr", 8), ("min", 127), ("max", -128)]
BLOCK = dense_primfunc((64, 128), units=64)
HEXAGON_BLOCK = hexagon_dense((64, 128), (2, 32, 32, 4))
VTA_SHAPES = ((64, 8, 1, 16), (4, 8, 16, 16))


def product(data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The house reference: packed weights NK32n16k, plain int64."""
    plain = weight.transpose(0, 2, 1, 3).reshape(weight.shape[0] * 32, -1)
    return data.astype(np.int64) @ plain.T.astype(np.int64)


def rescheduled(schedule: Schedule) -> Schedule:
    return Schedule(schedule_dense(schedule.mod["main"]))


FORMS = {
    "primfunc-and-numpy": lambda: (schedule_dense(BLOCK), product, {}),
    "primfunc-and-primfunc": lambda: (schedule_dense(BLOCK), BLOCK, {}),
    "schedule": lambda: (Schedule(schedule_dense(BLOCK)), product, {}),
    "module": lambda: (Schedule(schedule_dense(BLOCK)).mod, product, {}),
    "scheduling-function": lambda: (
        lambda sch: Schedule(schedule_dense(sch.mod["main"])),
        None,
        {"block": BLOCK},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_kernel_in_any_form_is_exact(form: str) -> None:
    kernel, reference, options = FORMS[form]()
    verdict = bench.verify(kernel, reference, "tensorcore", instruction="wmma.mma", **options)
    assert (verdict.verdict, verdict.reason) == ("exact", None)
    assert verdict.tensor_instructions == (64 // 8) * (64 // 32) * (128 // 16)


def test_hexagon_kernels_are_verified(bitexact: Bitexact) -> None:
    kernel = schedule_hexagon(HEXAGON_BLOCK)
    verdict = bitexact.verify(kernel, HEXAGON_BLOCK, "hexagon", instruction="vrmpy")
    assert verdict.tensor_instructions >= 64 * 2 * 32


def test_vta_programs_are_verified(bitexact: Bitexact) -> None:
    program = vta_dense(*VTA_SHAPES, epilogue=EPILOGUE)
    reference = vta_plain(*VTA_SHAPES, epilogue=EPILOGUE)
    verdict = bitexact.verify(program, reference, "vta", instruction="GEMM")
    assert verdict.tensor_instructions == 64 * 4 * 8


@pytest.mark.parametrize(
    ("wrong", "smallest"),
    [
        (lambda data, weight: product(data, weight) + (np.arange(64) == 33), 0),
        (lambda data, weight: product(data.astype(np.uint8), weight), 2),
    ],
    ids=["one-column-off-by-one", "unsigned-data"],
)
def test_a_difference_is_located_with_the_smallest_operands(wrong, smallest: int) -> None:  # type: ignore[no-untyped-def]
    verdict = bench.verify(schedule_dense(BLOCK), wrong, "tensorcore")
    assert verdict.verdict == "mismatch"
    assert verdict.mismatch is not None
    assert verdict.mismatch.device != verdict.mismatch.reference
    assert verdict.smallest is not None
    assert sum(len(values) for values in verdict.smallest.values.values()) == smallest
    assert verdict.smallest.others == 0


def test_a_schedule_that_fell_back_fails_only_where_the_instruction_was_asked_for() -> None:
    data, weight = te.placeholder((16, 8), "int8", "data"), te.placeholder((16, 8), "int8", "weight")
    out = te.compute((16, 8), lambda i, j: data[i, j].astype("int32") + weight[i, j], name="out")
    schedule = Schedule(te.create_prim_func([data, weight, out]))
    rows, columns = schedule.get_loops(schedule.get_sblock("out"))
    schedule.bind(rows, "blockIdx.x")
    schedule.bind(columns, "threadIdx.x")

    def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a.astype(np.int32) + b

    assert bench.verify(schedule, add, "tensorcore").exact
    verdict = bench.verify(schedule, add, "tensorcore", instruction="wmma.mma")
    assert verdict.verdict == "build-error"
    assert "executed no wmma.mma" in str(verdict.reason)


def test_zeros_are_no_proof() -> None:
    zeros = [np.zeros((64, 128), np.int8), np.zeros((2, 8, 32, 16), np.int8)]
    verdict = bench.verify(schedule_dense(BLOCK), product, "tensorcore", inputs=zeros)
    assert verdict.verdict == "build-error"
    assert "nothing was tested" in str(verdict.reason)


def test_a_kernel_that_does_not_compile_is_a_build_error() -> None:
    assert bench.verify(BLOCK, product, "tensorcore").verdict == "build-error"


SCHEDULED = schedule_dense(BLOCK)
ERRORS = {
    "target": (lambda: bench.verify(SCHEDULED, product, "gpu"), "unknown target 'gpu'"),
    "device": (
        lambda: bench.verify(SCHEDULED, product, "vta", "board"),
        "unknown device 'board': one of",
    ),
    "instruction": (
        lambda: bench.verify(SCHEDULED, product, "tensorcore", instruction="dp4a"),
        "unknown instruction 'dp4a' of tensorcore: one of wmma.mma, mma",
    ),
    "no-kernel": (lambda: bench.verify(3, product, "tensorcore"), "a kernel is a PrimFunc, .* not a int"),
    "no-block": (lambda: bench.verify(schedule_dense, None, "tensorcore"), "give block="),
    "no-reference": (lambda: bench.verify(SCHEDULED, None, "tensorcore"), "nothing to compare with"),
    "no-function": (lambda: bench.verify(SCHEDULED, 7, "tensorcore"), "a reference is .* not a int"),
    "shape": (
        lambda: bench.verify(SCHEDULED, lambda a, b: np.ones(3), "tensorcore"),
        r"the reference gives shape \(3,\), the kernel \(64, 64\)",
    ),
    "float-reference": (
        lambda: bench.verify(SCHEDULED, lambda a, b: np.full((64, 64), 0.5), "tensorcore"),
        "the reference gives float64, the kernel int32",
    ),
    "number-of-inputs": (
        lambda: bench.verify(SCHEDULED, product, "tensorcore", inputs=[np.zeros(1)]),
        "1 inputs for a kernel that takes 2",
    ),
    "input": (
        lambda: bench.verify(SCHEDULED, product, "tensorcore", inputs=[np.zeros(1), np.zeros(1)]),
        r"input data is float64\[1\]; the kernel takes int8\[64, 128\]",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_cannot_be_verified_is_an_error_that_says_why(case: str) -> None:
    call, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32"])
def test_operands_cover_the_range_and_its_corners(dtype: str) -> None:
    values = draw(TensorSpec("x", (4096,), dtype), np.random.default_rng(0))
    limits = np.iinfo(dtype)
    assert {limits.min, limits.max, 0, 1} <= set(values.tolist())
    assert values.dtype == dtype
    assert len(np.unique(values)) > 200


def test_operands_of_other_types_are_an_error() -> None:
    with pytest.raises(ValueError, match="tensor x is float32; operands of integer types can be drawn"):
        draw(TensorSpec("x", (2,), "float32"), np.random.default_rng(0))


def test_shrinking_finds_the_one_pair_that_matters() -> None:
    rng = np.random.default_rng(0)
    inputs = [rng.integers(1, 100, 50), rng.integers(1, 100, 50)]

    def compute(given):  # type: ignore[no-untyped-def]
        products = given[0] * given[1]
        wrong = products.copy()
        wrong[17] += products[17] > 0
        return wrong, products

    specs = [TensorSpec("a", (50,), "int64"), TensorSpec("b", (50,), "int64")]
    smallest = shrink(specs, inputs, compute)
    assert smallest.values == {"a": [((17,), 1)], "b": [((17,), 1)]}
    assert (smallest.output, smallest.device, smallest.reference) == ((17,), 2, 1)


def test_a_kernel_process_that_hangs_is_ended() -> None:
    from bench.flows.flow import flow_for

    files = flow_for("tensorcore").compile({"kernel": SCHEDULED})
    endless = files["kernel.ptx"].replace(b"ret;", b"$forever:\n\tbra $forever;\n\tret;", 1)
    taken = kernel_of(SCHEDULED)
    inputs = [draw(spec, np.random.default_rng(0)) for spec in taken.inputs]
    begun = time.monotonic()
    with (
        KernelProcess("tensorcore", {**files, "kernel.ptx": endless}, seconds=3) as process,
        pytest.raises(DeviceFailure, match="no result after 3 s") as caught,
    ):
        process.call("kernel", inputs, np.zeros((64, 64), np.int32))
    assert caught.value.verdict == "timeout"
    assert time.monotonic() - begun < 20


def test_a_kernel_process_that_refuses_its_code_says_why() -> None:
    with pytest.raises(DeviceFailure, match="not a VTA program") as caught:
        KernelProcess("vta", {"kernel.vta": b"nothing"})
    assert caught.value.verdict == "crash"


class TestCommandLine:
    EXAMPLE = Path(__file__).parents[2] / "examples" / "my_schedule.py"

    def test_the_example_is_exact(self, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ["verify", str(self.EXAMPLE), "--target", "tensorcore", "--instruction", "wmma.mma"]
        assert main(arguments) == 0
        printed = capsys.readouterr().out
        assert "exact" in printed
        assert "data int8[64, 128]" in printed

    def test_a_wrong_reference_is_a_mismatch(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "theirs.py"
        file.write_text(
            self.EXAMPLE.read_text() + "\n\ndef off(data, weight):\n    import numpy as np\n"
            "    return np.ones((64, 64), np.int32)\n"
        )
        arguments = ["verify", f"{file}::kernel", "--target", "tensorcore", "--reference", "off"]
        assert main(arguments) == 1
        printed = capsys.readouterr().out
        assert "mismatch between device and reference" in printed
        assert "smallest" in printed

    @pytest.mark.parametrize(
        ("content", "name", "message"),
        [
            (None, "", "there is no file"),
            ("kernel = 3", "", "a kernel is a PrimFunc"),
            ("other = 3", "", "defines no 'kernel'; it defines other"),
            ("raise RuntimeError('boom')", "", "raised RuntimeError: boom"),
            ("kernel = 3", "::mine", "defines no 'mine'; it defines kernel"),
        ],
        ids=["no-file", "no-kernel", "no-name", "raises", "other-name"],
    )
    def test_an_unusable_file_is_one_line(
        self, content: str | None, name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "file.py"
        if content is not None:
            file.write_text(content)
        assert main(["verify", f"{file}{name}", "--target", "vta"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert message in error
