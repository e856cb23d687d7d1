"""The speed of simulators and instruction models on one layer, beside peers on the same operands."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence

import numpy as np

from bench.devices.machines import machine_for
from bench.efficiency import LayerShapes
from bench.evaluate import evaluate_all
from bench.machine_files import LAUNCHES
from bench.perf.ceiling import PRODUCTS, Ceiling
from bench.perf.kernel import DATA_DTYPE, CompiledLayer, graph_of, random_of
from bench.perf.layers import SPEED, NamedLayer
from bench.perf.peers import CEILING, Operands, numpy_subject, onnxruntime_subject, tosa_subject
from bench.perf.result import Measured, work_of
from bench.perf.rounds import Subject, measure
from kernels.hexagon.toolchain import ToolchainError
from simulators import ptx

SIMULATOR = {
    "tensorcore": "PTX machine, with all checks",
    "hexagon": "qemu-hexagon",
    "vta": "VTA machine",
}
Progress = Callable[[str], None]


def measure_layers(measured: Measured, targets: Sequence[str], *, rounds: int, progress: Progress) -> None:
    """Time the two layers of :data:`bench.perf.layers.SPEED`, and add them to what was measured."""
    for name, shapes in SPEED.items():
        with contextlib.ExitStack() as stack:
            subjects = list(_peers(measured, shapes))
            subjects.append(_plain(shapes))
            for target in targets:
                progress(f"{name}: compiling for {target}")
                subjects += _subjects(measured, name, shapes, target, stack)
            timings = measure(subjects, rounds=rounds, progress=prefixed(name, progress))
            measured.works.append(work_of(name, _text(shapes), shapes.products(), timings))


def prefixed(name: str, progress: Progress) -> Progress:
    """Progress with the name of the work before each step."""
    return lambda step: progress(f"{name}: {step}")


def _text(shapes: LayerShapes) -> str:
    return " * ".join("x".join(map(str, each)) for each in (shapes.data, shapes.weight))


def _peers(measured: Measured, shapes: LayerShapes) -> list[Subject]:
    """The peers that are installed; of the others it is noted how to install them."""
    operands = Operands(random_of(shapes.data, "uint8", 3), random_of(shapes.weight, "int8", 1), shapes)
    found = common_peers(measured, [operands])
    try:
        found.append(tosa_subject(operands))
    except FileNotFoundError as error:
        note(measured, str(error))
    return found


def common_peers(measured: Measured, layers: Sequence[Operands]) -> list[Subject]:
    """NumPy and, where it is installed, onnxruntime."""
    found = [numpy_subject(layers)]
    try:
        found.append(onnxruntime_subject(layers))
    except ImportError as error:
        note(measured, f"{error}: pip install onnx onnxruntime")
    return found


def note(measured: Measured, what: str) -> None:
    """Say once what is missing."""
    if what not in measured.missing:
        measured.missing.append(what)


def _plain(shapes: LayerShapes) -> Subject:
    """The evaluation of the integer graph."""
    module = graph_of(NamedLayer("plain", shapes), "tensorcore")
    data = random_of(shapes.data, "int8", 3)
    return Subject("NumPy reference: integer graph", lambda: evaluate_all(module, data))


def _subjects(
    measured: Measured, name: str, shapes: LayerShapes, target: str, stack: contextlib.ExitStack
) -> list[Subject]:
    """The simulator of a target and the models of its instructions."""
    compiled = CompiledLayer(NamedLayer(name, shapes, DATA_DTYPE[target]), target)
    model = Subject(f"models of {target}’s instructions", compiled.through_instructions, target)
    if reason := machine_for(target).missing():
        note(measured, reason)
        return [model]
    stack.callback(compiled.machine.close)
    execute, expected = compiled.call()
    if not np.array_equal(execute(), expected):
        measured.wrong.append(f"{name} on {target}: the simulator differs from the instruction models")
    found = [model, Subject(SIMULATOR[target], execute, target)]
    if target == "tensorcore":
        found.append(_without_checks(compiled))
    if target == "hexagon":
        with contextlib.suppress(ToolchainError):
            ceiling = Ceiling()
            stack.callback(ceiling.close)
            found.append(Subject(CEILING, ceiling.run, target, peer=True, products=PRODUCTS))
    return found


def _without_checks(compiled: CompiledLayer) -> Subject:
    """The PTX machine without its checks, on operands of no meaning."""
    launch = json.loads(compiled.files[LAUNCHES])[compiled.kernel.name]
    module = ptx.parse(compiled.files[f"{compiled.kernel.name}.ptx"].decode())
    tensors = [*compiled.kernel.parameters, compiled.kernel.result]
    arrays = dict(
        zip(
            launch["parameters"],
            (random_of(each.shape, each.dtype, 0) for each in tensors),
            strict=True,
        )
    )
    buffers = [arrays[argument["name"]] for argument in launch["arguments"]]

    def run() -> None:
        module.launch(
            launch["entry"],
            tuple(launch["grid"]),
            tuple(launch["block"]),
            buffers,
            dynamic_shared=launch["dynamic_shared"],
            check=False,
        )

    return Subject("PTX machine, without checks", run, "tensorcore")
