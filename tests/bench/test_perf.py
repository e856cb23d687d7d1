"""`bitexact perf`: rounds, ratios, peers, tables and the plot; what is wrong or missing is noticed."""

import json
import subprocess
import sys
import time
from xml.etree import ElementTree

import numpy as np
import pytest

from bench.cli import main
from bench.devices.machines.vta import VtaMachine
from bench.efficiency import LayerShapes
from bench.evaluate import evaluate
from bench.peers import numpy_int32
from bench.perf import ceiling
from bench.perf.kernel import CompiledLayer, graph_of, random_of
from bench.perf.layers import KERNELS, SPEED, NamedLayer
from bench.perf.networks import Network, operands_of
from bench.perf.peers import Operands, in_numpy, numpy_subject, onnxruntime_subject
from bench.perf.result import KernelCost, Measured, Prepared, Work, work_of
from bench.perf.rounds import Spread, Subject, Timing, measure, processor_seconds
from bench.reports.html.plot import draw
from bench.reports.performance import tables
from bench.workloads import load
from kernels.hexagon.machine_code import find_vrmpy
from simulators.hvx import qemu
from tests.simulators.hvx_guest import needs_qemu, needs_toolchain

SMALL = NamedLayer("small", LayerShapes((8, 32, 6, 6), (32, 32, 3, 3), (1, 1), (1, 1, 1, 1)))


class TestRounds:
    def test_subjects_take_turns(self):
        seen = []
        subjects = [Subject(name, lambda name=name: seen.append(name)) for name in "ab"]
        timings = measure(subjects, rounds=3, warm_up=False)
        assert seen == list("ababab")
        assert [len(timing.seconds) for timing in timings] == [3, 3]

    def test_a_short_one_is_repeated_and_a_long_one_is_not(self):
        calls = {"short": 0, "long": 0}

        def work(name, seconds):
            calls[name] += 1
            end = time.process_time() + seconds
            while time.process_time() < end:
                pass

        subjects = [Subject("short", lambda: work("short", 0.01)), Subject("long", lambda: work("long", 0.2))]
        short, long = measure(subjects, rounds=1)
        assert calls["long"] == 3  # to warm up, to see how long it takes, and in the round
        assert 7 <= calls["short"] <= 13
        assert short.seconds[0] < 0.05 < long.seconds[0]

    def test_processes_that_ended_and_that_run_are_counted_and_waiting_is_not(self):
        burn = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"
        started = processor_seconds()
        subprocess.run([sys.executable, "-c", burn], check=True)
        ended = processor_seconds()
        assert ended - started > 0.25
        running = subprocess.Popen(
            [sys.executable, "-c", f"{burn}print(flush=True)\ninput()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            running.stdout.readline()
            assert processor_seconds() - ended > 0.25
        finally:
            running.communicate(b"\n")
        before = processor_seconds()
        time.sleep(0.2)
        assert processor_seconds() - before < 0.1

    def test_ratios_are_taken_round_by_round(self):
        mine = Timing(Subject("mine", print), [1.0, 2.0, 4.0])
        peer = Timing(Subject("peer", print, peer=True, products=50), [1.0, 1.0, 1.0])
        assert mine.rates(10**9) == [1.0, 0.5, 0.25]
        ratio = mine.times_as_fast_as(peer, 100)
        assert (ratio.median, ratio.low, ratio.high) == (1.0, 0.5, 2.0)


def test_a_peer_of_one_target_is_compared_with_that_target_alone():
    timings = [
        Timing(Subject("all", print, peer=True), [1.0]),
        Timing(Subject("one", print, "hexagon", peer=True), [1.0]),
        Timing(Subject("mine", print, "hexagon"), [2.0]),
        Timing(Subject("other", print, "vta"), [2.0]),
    ]
    by_name = {speed.name: speed.ratios for speed in work_of("w", "", 10**9, timings).speeds}
    assert {name: set(ratios) for name, ratios in by_name.items()} == {
        "all": set(),
        "one": {"all"},
        "mine": {"all", "one"},
        "other": {"all"},
    }
    assert by_name["mine"]["all"].median == 0.5


@pytest.mark.parametrize(
    "shapes",
    [LayerShapes((2, 3, 9, 8), (4, 3, 3, 2), (2, 1), (1, 0, 2, 1), (1, 2)), LayerShapes((5, 16), (7, 16))],
    ids=["convolution", "dense"],
)
def test_peers_compute_what_the_graph_means(shapes):
    pytest.importorskip("onnxruntime")
    data, weight = random_of(shapes.data, "int8", 3), random_of(shapes.weight, "int8", 1)
    operands = Operands(data, weight, shapes)
    expected = evaluate(graph_of(NamedLayer("layer", shapes), "tensorcore"), data)
    np.testing.assert_array_equal(in_numpy(operands), expected)
    np.testing.assert_array_equal(onnxruntime_subject([operands]).run()[0], expected)


def test_a_grouped_convolution_in_numpy():
    pytest.importorskip("onnxruntime")
    shapes = LayerShapes((1, 6, 5, 5), (6, 2, 3, 3))
    operands = Operands(
        random_of(shapes.data, "int8", 3), random_of(shapes.weight, "int8", 1), shapes, groups=3
    )
    np.testing.assert_array_equal(in_numpy(operands), onnxruntime_subject([operands]).run()[0])


def test_int32_wraps_in_numpy():
    ones = np.full((1, 2), 2**30, np.int32)
    assert numpy_int32.matrix_product(ones, np.full((2, 1), 2, np.int32))[0, 0] == 0


@pytest.mark.parametrize("target", ["tensorcore", "vta", pytest.param("hexagon", marks=needs_qemu)])
def test_a_compiled_layer_is_exact_and_counted(target):
    compiled = CompiledLayer(SMALL, target)
    execute, expected = compiled.call()
    np.testing.assert_array_equal(execute(), expected)
    compiled.machine.close()
    counted = CompiledLayer(SMALL, target).counted()
    assert counted.count > 0
    assert counted.shapes == "8x32x6x6 * 32x32x3x3 s1 p1"


def test_a_layer_of_four_bits_is_counted():
    layer = NamedLayer("int4", LayerShapes((8, 32, 2, 2), (8, 32, 1, 1)), "int4", "int4")
    assert CompiledLayer(layer, "tensorcore").counted().count == 4


@needs_qemu
@needs_toolchain
def test_the_ceiling_executes_as_many_vrmpy_as_it_says(monkeypatch):
    monkeypatch.setattr(ceiling, "TURNS", 1000)
    assert len(find_vrmpy(ceiling.ceiling_elf())) == 2 * ceiling.PACKETS
    loop = ceiling.Ceiling()
    loop.run()  # its exit status says whether it made as many turns
    compiled = ceiling.compile_c
    monkeypatch.setattr(
        ceiling, "compile_c", lambda source: compiled(source.replace("cmp.gtu(r1, #1)", "cmp.gtu(r1, #9)"))
    )
    with pytest.raises(RuntimeError, match="the loop of vrmpy ended with 8"):
        ceiling.Ceiling().run()


def test_a_network_is_measured_by_all_of_its_layers():
    network = Network(load("digits", batch=8), "vta")
    layers = [operands_of(layer) for layer in network.layers]
    assert [layer.is_dense for layer in layers] == [False] * 4 + [True]
    numpy_subject(layers).run()
    assert network.is_exact()


@pytest.fixture
def small(monkeypatch):
    """The same command with small layers."""
    monkeypatch.setitem(SPEED, "convolution", SMALL.shapes)
    monkeypatch.setitem(SPEED, "dense", LayerShapes((8, 64), (64, 64)))
    for target in KERNELS:
        monkeypatch.setitem(KERNELS, target, [SMALL])
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")


def test_the_command_measures_prints_and_writes(small, tmp_path, capsys):
    out, plot = tmp_path / "perf.json", tmp_path / "perf.svg"
    arguments = ["--target", "vta", "--rounds", "1", "--network", "digits"]
    assert main(["perf", *arguments, "--json", str(out), "--plot", str(plot)]) == 0
    printed = capsys.readouterr().out
    for said in ("NumPy int32", "VTA machine", "models of vta’s instructions", "GEMM micro-ops", "small"):
        assert said in printed
    content = json.loads(out.read_text())
    assert [work["name"] for work in content["works"]] == ["convolution", "dense", "digits"]
    assert content["wrong"] == []
    assert content["kernels"][0]["ratios"]["GEMM micro-ops over products / 256"] == 1.0
    assert "numpy" in content["versions"]
    texts = [each.text for each in ElementTree.parse(plot).iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("VTA machine") == 3


def test_a_file_that_cannot_be_written_is_said_after_the_tables(small, capsys):
    arguments = ["--target", "vta", "--only", "kernels"]
    assert main(["perf", *arguments, "--json", "/dev/full"]) == 2
    captured = capsys.readouterr()
    assert "GEMM micro-ops" in captured.out
    assert captured.err == "bitexact perf: /dev/full: No space left on device\n"


def test_a_simulator_that_is_wrong_is_said_and_fails(small, monkeypatch, capsys):
    called = VtaMachine.call

    def spoil(self, kernel, arguments):
        report = called(self, kernel, arguments)
        arguments[-1].reshape(-1)[0] ^= 1
        return report

    monkeypatch.setattr(VtaMachine, "call", spoil)
    assert main(["perf", "--target", "vta", "--rounds", "1", "--only", "layers"]) == 1
    printed = capsys.readouterr().out
    assert "NOT EXACT: convolution on vta: the simulator differs from the instruction models" in printed


def test_a_simulator_that_is_missing_is_said_and_fails(small, monkeypatch, capsys):
    monkeypatch.setattr(qemu, "available", lambda: "qemu-hexagon not found: apt-get install qemu-user")
    arguments = ["--target", "hexagon", "--rounds", "1", "--only", "layers", "--only", "kernels"]
    assert main(["perf", *arguments]) == 1
    printed = capsys.readouterr().out
    assert printed.count("not measured: qemu-hexagon not found: apt-get install qemu-user") == 1
    assert "models of hexagon’s instructions" in printed


def test_peers_that_are_missing_are_said_and_left_out(small, monkeypatch, capsys):
    def missing(_):
        raise ImportError("No module named 'onnxruntime'")

    monkeypatch.setattr("bench.perf.speed.onnxruntime_subject", missing)
    monkeypatch.setattr("bench.peers.tosa_model.executable", lambda: None)
    assert main(["perf", "--target", "vta", "--rounds", "1", "--only", "layers"]) == 0
    printed = capsys.readouterr().out
    assert "No module named 'onnxruntime': pip install onnx onnxruntime" in printed
    assert printed.count("TOSA's reference model is missing") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "'0' is not a whole number from 1"),
        (["--target", "gpu"], "unknown target 'gpu': one of tensorcore, hexagon, vta"),
        (["--network", "vgg"], "unknown workload 'vgg': one of digits"),
        (["--only", "dense"], "invalid choice: 'dense' (choose from 'layers', 'network', 'kernels')"),
        (["--json", "/nowhere/perf.json"], "/nowhere/perf.json: there is no folder /nowhere"),
        (["--plot", "/nowhere/perf.svg"], "/nowhere/perf.svg: there is no folder /nowhere"),
        (["--only", "network", "--image", "33"], "image 33 of resnet18 is not a multiple of 8"),
    ],
    ids=["rounds", "target", "network", "only", "json", "plot", "image"],
)
def test_a_usage_error_is_one_line_and_status_2(arguments, message, capsys):
    try:
        status = main(["perf", *arguments])
    except SystemExit as end:
        status = end.code
    captured = capsys.readouterr()
    assert (status, captured.err.count("\n")) == (2, 1)
    assert captured.err.startswith("bitexact perf: ")
    assert message in captured.err


def test_numpy_is_not_imported_before_it_is_held_to_one_thread():
    code = """
import sys
from bench.cli import build_parser
build_parser().parse_args(["perf", "--target", "vta", "--network", "digits"])
sys.exit("numpy" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def example() -> Measured:
    timings = [
        Timing(Subject("NumPy int32", print, peer=True), [1.0, 1.0, 1.0]),
        Timing(Subject("onnxruntime", print, peer=True), [0.1, 0.1, 0.1]),
        Timing(Subject("qemu-hexagon", print, "hexagon"), [0.5, 0.4, 0.8]),
        Timing(Subject("QEMU, vrmpy alone", print, "hexagon", peer=True), [0.25, 0.25, 0.25]),
    ]
    cost = KernelCost(
        target="hexagon",
        layer="conv",
        operator="conv2d",
        shapes="1x4x2x2 * 32x4x1x1 s1 p0",
        counters={"packets": 3, "vrmpy": 4, "tensor_instructions": 4},
        ratios={"packets per vrmpy": 0.75, "vrmpy over products / 128": 1.0},
    )
    return Measured(
        3,
        works=[work_of("conv", "1x4 * 4x4", 2 * 10**9, timings)],
        prepared=[Prepared("net", "hexagon", 1.0, 2.0)],
        kernels=[cost],
        missing=["TOSA: install it"],
        machine={"processor": "a processor", "cores": 2, "load": 0.5},
    )


def test_tables_hold_the_numbers():
    text = tables(example(), style="github")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line
    ]
    by_name = {row[0]: row[1:] for row in rows}
    assert by_name[""] == ["conv<br>GMAC/s", "conv<br>× NumPy int32", "conv<br>× onnxruntime"]
    assert by_name["NumPy int32"] == ["2.0", "1", "0.1"]
    assert by_name["qemu-hexagon"] == ["4.0", "2.0", "0.2"]
    assert "qemu-hexagon reaches 50 % of a loop of nothing but vrmpy (conv)" in text
    assert "60 % at most" in text
    assert ["hexagon", "packets per vrmpy", "0.50", "0.75", "0.75", "0.95 together"] in rows
    assert by_name["conv"] == ["1x4x2x2 \\* 32x4x1x1 s1 p0", "4", "0.75", "1.00"]
    assert "net on hexagon, once: quantising and passes 1.0 s, compilation 2.0 s" in text
    assert "not measured: TOSA: install it" in text
    assert "conv<br>" not in tables(example())


def test_the_plot_has_a_mark_for_each_speed_at_its_place():
    root = ElementTree.fromstring(draw(example()))
    name = "{http://www.w3.org/2000/svg}"
    circles = list(root.iter(f"{name}circle"))[1:]  # the first is the legend's
    squares = [each for each in root.iter(f"{name}rect") if each.get("class") == "peer"][1:]
    assert (len(circles), len(squares)) == (1, 3)
    ticks = {
        float(each.text): float(each.get("x"))
        for each in root.iter(f"{name}text")
        if (each.text or "").replace(".", "").isdigit() and "muted" in each.get("class", "")
    }
    # 2 GMAC/s of NumPy and 20 of onnxruntime are a decade apart on the scale.
    assert float(squares[1].get("x")) - float(squares[0].get("x")) == pytest.approx(
        ticks[10] - ticks[1], abs=0.2
    )


def test_a_plot_of_nothing_is_a_picture():
    ElementTree.fromstring(draw(Measured(1)))


def test_what_is_measured_is_plain_values():
    content = json.loads(json.dumps(example().to_json()))
    assert content["works"][0]["speeds"][2]["ratios"]["NumPy int32"] == {
        "median": 2.0,
        "low": 1.25,
        "high": 2.5,
    }
    assert isinstance(Spread.of([1, 2, 3]).median, int)
    assert isinstance(example().works[0], Work)
