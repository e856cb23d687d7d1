"""Bundles: a failing case is kept whole, replays elsewhere, and anything else is refused with one error."""

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm.s_tir import Schedule

import bench
from bench import bundles
from bench.artifact import Artifact
from bench.bundle_folder import default_folder
from bench.bundles import BundleError
from bench.bundles.signature import signature
from bench.cli import main
from bench.commands.options import kept as keep_or_say
from bench.compare.verdict import VERDICTS, Verdict
from bench.faults import FAULTS
from bench.trace import Trace
from kernels.tensorcore.dense import dense_primfunc, schedule_dense
from simulators.vta import Config
from tests.bench.integer_graphs import ConvCase, convolution, dense, full_range

FAULT = FAULTS["vta-shift-by-one"]
CASE = ConvCase(batch=1, inputs=3, size=4, outputs=5)


@cache
def the_failing_run() -> tuple[Verdict, Trace]:
    return failing_run()


def failing_run(**options: object) -> tuple[Verdict, Trace]:
    module = convolution(CASE, scheme="pow2", seed=1)
    data = full_range(np.random.default_rng(1), (1, 3, 4, 4), "int8")
    trace = Trace()
    verdict = bench.run(
        module, data, "vta", workload="/home/someone/small", fault=FAULT, trace=trace, **options
    )
    assert verdict.verdict == "mismatch"
    return verdict, trace


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One bundle, which nobody changes."""
    verdict, trace = the_failing_run()
    return bundles.write(tmp_path_factory.mktemp("kept"), verdict, trace, seed=7)


@pytest.fixture
def copy(kept: Path, tmp_path: Path) -> Path:
    """One bundle to be damaged."""
    return Path(shutil.copytree(kept, tmp_path / "elsewhere"))


class TestWhatIsKept:
    def test_everything_to_run_it_again(self, kept: Path) -> None:
        verdict, trace = the_failing_run()
        held = bundles.read(kept)
        assert (held.target, held.device, held.seed, held.fault) == ("vta", "sim", 7, FAULT.name)
        assert verdict.mismatch is not None
        assert held.verdict["mismatch"]["binding"] == verdict.mismatch.binding
        assert trace.transformed is not None
        assert held.trace.transformed is not None
        tvm.ir.assert_structural_equal(held.trace.mod, trace.mod)
        tvm.ir.assert_structural_equal(held.trace.transformed.mod, trace.transformed.mod)
        assert replace(held.trace.transformed, mod=None) == replace(trace.transformed, mod=None)  # type: ignore[arg-type]
        np.testing.assert_array_equal(held.trace.inputs["data"], trace.inputs["data"])
        assert held.trace.artifact is not None
        assert trace.artifact is not None
        assert held.trace.artifact.machine == trace.artifact.machine

    def test_graphs_can_be_read(self, kept: Path) -> None:
        assert "R.nn.conv2d" in (kept / "graph_before.txt").read_text()
        assert "NCHW1n16c" in (kept / "graph_after.txt").read_text()

    def test_the_readme_says_how_to_replay(self, kept: Path) -> None:
        text = (kept / "README.txt").read_text()
        assert "bitexact replay ." in text
        assert "First difference: " in text
        assert FAULT.name in text
        for file in kept.iterdir():
            assert file.name in text or file.name == "README.txt"

    def test_no_place_of_this_machine_is_named(self, kept: Path) -> None:
        for file in kept.iterdir():
            if file.suffix in (".txt", ".json"):
                assert "/home/someone" not in file.read_text()
        assert bundles.read(kept).verdict["workload"] == "small"
        assert kept.name == "small-vta-sim-vta-shift-by-one-mismatch"

    def test_options_of_the_target(self, tmp_path: Path) -> None:
        config = Config(LOG_INP_BUFF_SIZE=14)
        verdict, trace = failing_run(config=config, start="conv1", profile="hls")
        held = bundles.read(bundles.write(tmp_path, verdict, trace))
        assert held.trace.options == {"config": config, "start": "conv1"}
        assert held.trace.profile == "hls"

    def test_folder_of_tuning_records_is_not_an_option_elsewhere(self, tmp_path: Path) -> None:
        trace = Trace(mod=dense(8, 16, 32), options={"tuning": "/home/someone/records", "fuse": False})
        verdict = Verdict("w", "tensorcore", "sim", "build-error")
        assert bundles.read(bundles.write(tmp_path, verdict, trace)).trace.options == {"fuse": False}

    def test_two_of_one_name(self, tmp_path: Path) -> None:
        verdict, trace = Verdict("w", "vta", "host", "crash", reason="it died"), Trace(mod=dense(1, 4, 4))
        names = [bundles.write(tmp_path, verdict, trace).name for _ in range(3)]
        assert names == ["w-vta-host-crash", "w-vta-host-crash-2", "w-vta-host-crash-3"]

    def test_nothing_is_left_of_one_that_cannot_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            bundles.write(tmp_path, Verdict("w", "vta", "host", "crash"), Trace(mod=dense(1, 4, 4)))
        assert list(tmp_path.iterdir()) == []

    def test_a_type_that_it_cannot_hold_is_named(self, tmp_path: Path) -> None:
        trace = Trace(mod=dense(1, 4, 4), inputs={"data": np.array([object()])})
        with pytest.raises(ValueError, match="tensor data is object, which a bundle cannot hold"):
            bundles.write(tmp_path, Verdict("w", "vta", "host", "crash"), trace)

    @pytest.mark.parametrize("verdict", VERDICTS)
    def test_only_failures_are_kept(self, verdict: str, tmp_path: Path) -> None:
        given = Verdict("w", "vta", "sim", verdict)
        path = bundles.keep(tmp_path, given, Trace(mod=dense(1, 4, 4)))
        worth = verdict in ("mismatch", "hazard", "build-error", "crash", "timeout")
        assert (path is not None) == worth
        assert given.bundle == (str(path) if worth else None)
        assert bundles.keep(None, given, Trace()) is None


class TestReplay:
    def test_the_artefact_is_executed_as_it_is(self, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_build(*_: object) -> None:
            raise AssertionError("the artefact was built again")

        monkeypatch.setattr("bench.pipeline._Run.build", no_build)
        verdict = bundles.replay(copy)
        assert signature(verdict.to_json()) == signature(bundles.read(copy).verdict)
        assert verdict.counters["tensor_instructions"] > 0

    def test_another_artefact_gives_another_verdict(self, copy: Path) -> None:
        """What is executed is what lies in the bundle: with the program of no fault it is exact."""
        module = convolution(CASE, scheme="pow2", seed=1)
        trace = Trace()
        bench.run(module, bundles.read(copy).trace.inputs, "vta", trace=trace)
        assert trace.artifact is not None
        change(copy, "artifact.zip", trace.artifact.to_bytes())
        assert bundles.replay(copy).exact

    def test_rebuilt_with_the_fault(self, copy: Path) -> None:
        assert bundles.replay(copy, rebuild=True).verdict == "mismatch"

    def test_on_another_device(self, copy: Path) -> None:
        with pytest.raises(BundleError, match="built for the device sim and cannot run on host: --rebuild"):
            bundles.replay(copy, device="host")
        edit(copy, fault=None)
        assert bundles.replay(copy, device="host", rebuild=True).exact

    def test_on_another_kind_of_processor(self, copy: Path) -> None:
        edit(copy, versions={"processor": "sparc"})
        with pytest.raises(BundleError, match=r"artefact is for sparc, this is .*: --rebuild"):
            bundles.replay(copy)

    def test_inputs_that_do_not_fit(self, copy: Path) -> None:
        path = copy / "inputs.npz"
        np.savez(path, data=np.zeros((1, 2), np.int8))
        change(copy, "inputs.npz", path.read_bytes())
        with pytest.raises(BundleError, match=r"inputs\.npz holds .* and the graph takes"):
            bundles.replay(copy)

    def test_an_unknown_fault(self, copy: Path) -> None:
        edit(copy, fault="gremlin")
        with pytest.raises(BundleError, match="unknown fault 'gremlin'"):
            bundles.replay(copy)

    def test_an_exception_of_the_bench_is_a_crash(self, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object, **__: object) -> None:
            raise KeyError("n")

        monkeypatch.setattr("bench.pipeline.evaluate_all", broken)
        verdict = bundles.replay(copy)
        assert (verdict.verdict, verdict.reason) == ("crash", "the bench raised KeyError: 'n'")

    def test_an_unknown_device(self, copy: Path) -> None:
        with pytest.raises(ValueError, match="unknown device 'fpga'"):
            bundles.replay(copy, device="fpga")

    def test_what_has_another_version(self, copy: Path) -> None:
        edit(copy, versions={**bundles.read(copy).versions, "numpy": "1.0", "old": "2"})
        others = bundles.read(copy).other_versions()
        assert others["numpy"][0] == "1.0"
        assert others["old"] == ("2", None)
        assert set(others) == {"numpy", "old"}


def change(bundle: Path, name: str, content: bytes | None) -> None:
    """Give a bundle another file, with its digest."""
    manifest = json.loads((bundle / "bundle.json").read_text())
    if content is None:
        del manifest["files"][name]
    else:
        manifest["files"][name] = sha256(content).hexdigest()
        (bundle / name).write_bytes(content)
    (bundle / "bundle.json").write_text(json.dumps(manifest))


def edit(bundle: Path, **entries: object) -> None:
    """Give a bundle's manifest other entries; None takes one away."""
    manifest = json.loads((bundle / "bundle.json").read_text())
    for name, value in entries.items():
        manifest[name] = value
        if value is None and name != "fault":
            del manifest[name]
    (bundle / "bundle.json").write_text(json.dumps(manifest))


def edit_artifact(bundle: Path) -> None:
    artifact = Artifact.from_bytes((bundle / "artifact.zip").read_bytes())
    change(bundle, "artifact.zip", replace(artifact, target="hexagon").to_bytes())


class Trap:
    """Would leave a file behind if anything unpickled it."""

    def __reduce__(self) -> tuple[object, ...]:
        return (open, ("/tmp/bitexact-trap", "w"))


MALFORMED: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing-there": (shutil.rmtree, "elsewhere is not there"),
    "no-manifest": (lambda path: (path / "bundle.json").unlink(), "is no bundle: it has no bundle.json"),
    "no-json": (lambda path: (path / "bundle.json").write_text("{"), "bundle.json is not JSON"),
    "binary-manifest": (lambda path: (path / "bundle.json").write_bytes(b"\xff\xfe"), "is not JSON"),
    "other-json": (lambda path: (path / "bundle.json").write_text("[1]"), "bundle.json has no format"),
    "newer-format": (lambda path: edit(path, format=2), "bundle format 2 is not supported: 1 is"),
    "no-target": (lambda path: edit(path, target=None), "bundle.json lacks 'target'"),
    "no-files": (lambda path: edit(path, files=None), "bundle.json lacks 'files'"),
    "target-of-no-kind": (lambda path: edit(path, target=3), "target is 3, which is no str"),
    "unknown-target": (lambda path: edit(path, target="npu"), "unknown target 'npu': one of tensorcore"),
    "unknown-option": (lambda path: edit(path, options={"speed": 9}), "vta has no option speed"),
    "bad-configuration": (
        lambda path: edit(path, options={"config": {"LOG_SPEED": 1}}),
        "not a VTA configuration",
    ),
    "file-missing": (lambda path: (path / "inputs.npz").unlink(), "inputs.npz cannot be read: No such file"),
    "file-changed": (
        lambda path: (path / "graph_before.json").write_text("{}"),
        "graph_before.json is not the file that was written",
    ),
    "no-inputs": (lambda path: change(path, "inputs.npz", None), "the bundle has no inputs.npz"),
    "no-arrays": (lambda path: change(path, "inputs.npz", b"PK"), "inputs.npz holds no arrays"),
    "pickle": (lambda path: change(path, "inputs.npz", pickle.dumps(Trap())), "inputs.npz holds no arrays"),
    "pickled-array": (
        lambda path: change(path, "inputs.npz", pickled_array(path)),
        "inputs.npz holds no arrays",
    ),
    "no-graph": (lambda path: change(path, "graph_before.json", None), "has no graph_before.json"),
    "no-graph-after": (lambda path: change(path, "graph_after.json", None), "has no graph_after.json"),
    "graph-of-no-json": (
        lambda path: change(path, "graph_before.json", b"x"),
        "TVM cannot read graph_before",
    ),
    "graph-of-another-kind": (
        lambda path: change(path, "graph_before.json", tvm.ir.save_json(tvm.runtime.convert(1)).encode()),
        "graph_before.json holds a int, no IRModule",
    ),
    "no-transformation": (
        lambda path: change(path, "transformed.json", b'{"target": "vta"}'),
        "transformed.json is not what was written: 'report'",
    ),
    "unknown-entry": (
        lambda path: change(path, "transformed.json", b'{"target": "vta", "report": [{"name": 1}]}'),
        "transformed.json is not what was written",
    ),
    "no-artefact": (lambda path: change(path, "artifact.zip", b"PK"), "artifact.zip: not an artefact"),
    "foreign-artefact": (edit_artifact, "artifact.zip is for hexagon, the bundle for vta"),
}


def pickled_array(bundle: Path) -> bytes:
    path = bundle / "pickled.npz"
    np.savez(path, data=np.array([Trap()], object))
    return path.read_bytes()


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_no_bundle_is_refused_with_one_error(
    case: str, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, message = MALFORMED[case]
    damage(copy)
    with pytest.raises(BundleError, match=message.replace("[", r"\[")):
        bundles.read(copy)
    assert main(["replay", str(copy)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("bitexact replay: ")
    assert captured.err.count("\n") == 1
    assert not Path("/tmp/bitexact-trap").exists()


def test_a_file_is_no_bundle(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("{}")
    with pytest.raises(BundleError, match="is a file: a bundle is a directory"):
        bundles.read(path)


BLOCK = dense_primfunc((16, 32), units=32)


def wrong(data: np.ndarray, weight: np.ndarray) -> np.ndarray:
    plain = weight.transpose(0, 2, 1, 3).reshape(weight.shape[0] * 32, -1)
    return data.astype(np.int64) @ plain.T.astype(np.int64) + (data[:, :1] % 2)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    trace = Trace()
    verdict = bench.verify(
        schedule_dense(BLOCK), wrong, "tensorcore", seed=11, trace=trace, instruction="wmma.mma"
    )
    assert verdict.verdict == "mismatch"
    return bundles.write(tmp_path_factory.mktemp("kernel"), verdict, trace, seed=11)


class TestKernels:
    def test_replay(self, kernel: Path) -> None:
        held = bundles.read(kernel)
        assert (held.is_kernel, held.trace.instruction) == (True, "wmma.mma")
        for rebuild in (False, True):
            verdict = bundles.replay(kernel, rebuild=rebuild)
            assert signature(verdict.to_json()) == signature(held.verdict)
            assert verdict.tensor_instructions

    def test_it_does_not_run_on_the_host(self, kernel: Path) -> None:
        with pytest.raises(BundleError, match="a single kernel runs on its target's machine"):
            bundles.replay(kernel, device="host")

    def test_inputs_are_missing(self, kernel: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(kernel, tmp_path / "copy"))
        np.savez(copy / "inputs.npz", other=np.zeros(1))
        change(copy, "inputs.npz", (copy / "inputs.npz").read_bytes())
        with pytest.raises(BundleError, match="the inputs lack 'data'"):
            bundles.replay(copy)

    def test_tensors_are_malformed(self, kernel: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(kernel, tmp_path / "copy"))
        edit(copy, tensors=[{"name": "data"}])
        with pytest.raises(BundleError, match="tensors: 'shape'"):
            bundles.read(copy)

    def test_nothing_to_compare_with(self, kernel: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(kernel, tmp_path / "copy"))
        change(copy, "expected.npz", None)
        with pytest.raises(BundleError, match="its reference did not run"):
            bundles.replay(copy)

    def test_nothing_to_build_from(self, kernel: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(kernel, tmp_path / "copy"))
        change(copy, "kernel.json", None)
        with pytest.raises(BundleError, match="holds no function to build its kernel from"):
            bundles.replay(copy, rebuild=True)

    def test_verify_keeps_what_fails(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        source = tmp_path / "mine.py"
        source.write_text(
            "from kernels.tensorcore.dense import dense_primfunc, schedule_dense\n"
            "kernel = schedule_dense(dense_primfunc((16, 32), units=32))\n"
            "def reference(data, weight): return data[:, :1].astype('int64') + weight[0, 0, :, 0]\n"
        )
        arguments = ["verify", str(source), "--target", "tensorcore", "--bundles", str(tmp_path / "kept")]
        assert main([*arguments, "--seed", "3"]) == 1
        (path,) = (tmp_path / "kept").iterdir()
        assert f"kept in {path} (bitexact replay {path})" in capsys.readouterr().out
        assert bundles.read(path).seed == 3
        assert main(["replay", str(path)]) == 1
        assert "reproduced: mismatch in kernel" in capsys.readouterr().out

    def test_a_scheduled_module(self) -> None:
        trace = Trace()
        bench.verify(Schedule(schedule_dense(BLOCK)), BLOCK, "tensorcore", trace=trace)
        assert trace.kernel is not None


class TestCommand:
    def test_run_keeps_what_fails_and_replay_reproduces_it(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run = ["run", "digits", "--batch", "1", "--inject", FAULT.name, "--bundles", str(tmp_path)]
        report = tmp_path / "report.json"
        assert main([*run, "--json", str(report)]) == 1
        (path,) = tmp_path.glob("digits-*")
        (verdict,) = json.loads(report.read_text())["verdicts"]
        assert verdict["bundle"] == str(path)
        capsys.readouterr()
        assert main(["replay", str(path), "--json", str(report)]) == 1
        printed = capsys.readouterr().out
        assert "reproduced: mismatch in conv2d (between device and transformed graph)" in printed
        (again,) = json.loads(report.read_text())["verdicts"]
        assert again["mismatch"] == verdict["mismatch"]

    def test_what_is_not_reproduced_is_said(self, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
        edit(copy, fault=None, versions={**bundles.read(copy).versions, "numpy": "1.0"})
        assert main(["replay", str(copy), "--rebuild"]) == 0
        printed = capsys.readouterr().out
        assert "not reproduced: the bundle has mismatch in conv2d" in printed
        assert "; this is exact" in printed
        assert f"numpy is {np.__version__} here; it was 1.0" in printed

    @pytest.mark.slow
    def test_an_exact_run_keeps_nothing(self, tmp_path: Path) -> None:
        run = ["run", "digits", "--batch", "1", "--target", "vta", "--device", "host"]
        assert main([*run, "--bundles", str(tmp_path / "kept")]) == 0
        assert not (tmp_path / "kept").exists()

    def test_a_bundle_that_cannot_be_written_is_said(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").touch()
        verdict = Verdict("w", "vta", "sim", "crash")
        keep_or_say(tmp_path / "file", verdict, Trace(mod=dense(1, 4, 4)))
        assert "the failing case could not be kept in" in capsys.readouterr().err
        assert verdict.bundle is None


def test_the_folder_of_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITEXACT_BUNDLES", "none")
    assert default_folder() is None
    monkeypatch.setenv("BITEXACT_BUNDLES", "over/there")
    assert default_folder() == Path("over/there")
    monkeypatch.delenv("BITEXACT_BUNDLES")
    assert default_folder() == Path("bitexact-bundles")
