"""Runs for the report's tests, made by hand: every verdict, mismatches of several ranks, hostile text."""

import numpy as np

from bench.compare.causes import Cause
from bench.compare.difference import difference_of
from bench.compare.mismatch import Mismatch, find_array_mismatch
from bench.compare.operands import Operands
from bench.compare.smallest import SmallestOperands
from bench.compare.verdict import HostOperator, LayerVerdict, Verdict
from bench.reports.json_file import Run
from simulators.report import Finding

HOSTILE = "<script>alert('x')</script> & \"quotes\""

PTX = {
    "warp_instructions": 900,
    "tensor_instructions": 100,
    "global_load_bytes": 1000,
    "global_store_bytes": 100,
    "global_compulsory_bytes": 1000,
    "shared_transactions": 200,
    "shared_bank_conflicts": 3,
}


def layer(number: int, **changes: object) -> LayerVerdict:
    values = {
        "name": f"conv{number}",
        "operator": "conv2d",
        "shapes": "2x16x8x8 * 32x16x3x3 s1 p1",
        "instruction": "wmma.mma m8n32k16 s8",
        "count": 100,
        "verdict": "exact",
        "counters": PTX,
        "schedule": "default",
    }
    return LayerVerdict(**{**values, **changes})  # type: ignore[arg-type]


def verdict(name: str = "exact", **changes: object) -> Verdict:
    values = {
        "workload": "net",
        "target": "tensorcore",
        "device": "sim",
        "verdict": name,
        "seconds": 1.25,
        "artifact": "PTX (sm_80)",
        "counters": PTX,
        "layers": [layer(number) for number in range(1, 4)],
    }
    return Verdict(**{**values, **changes})  # type: ignore[arg-type]


def mismatch(shape: tuple[int, ...] = (2, 5, 6, 7), axes: str = "NCHW", share: float = 0.2) -> Mismatch:
    """A tensor of which some elements differ, the first of them with operands."""
    random = np.random.default_rng(1)
    reference = random.integers(-128, 128, shape).astype(np.int8)
    device = reference ^ (random.random(shape) < share).astype(np.int8)
    found = find_array_mismatch("out", device, reference)
    assert found is not None
    coordinate = dict(zip(axes, found.coordinate.values(), strict=True))
    first = tuple(coordinate.values())
    values = vars(found) | {
        "between": "device and transformed graph",
        "layer": "conv2",
        "operator": "conv2d",
        "coordinate": coordinate,
        "pattern": dict(zip(axes, found.pattern.values(), strict=True)),
        "operands": Operands([1, 2, -3] * 10, [4, 0, 5] * 10, -110),
        "difference": difference_of(device, reference, dict(zip(axes, shape, strict=True)), first),
    }
    return Mismatch(**values)


def broken_layers() -> list[LayerVerdict]:
    return [
        layer(1),
        layer(2, verdict="mismatch"),
        layer(3, verdict="mismatch", instruction=None, count=None, why_not="it has 2 groups", counters={}),
    ]


def every_verdict() -> Run:
    """One run in which each verdict occurs."""
    race = Finding("race", "error", "line 7", "two threads")
    warning = Finding("lossy-store", "warning", "instruction 3", HOSTILE)
    crowd = [Finding("race", "error", f"line {number}", "two threads") for number in range(150)]
    smallest = SmallestOperands({"data": [((0, 1), 3)]}, 0, (0, 0), 4, 5)
    verdicts = [
        verdict(accuracy={"float": 0.99, "integer": 0.98}, hardware="NVIDIA T4"),
        verdict(workload="warned", findings=[warning]),
        verdict(
            "mismatch",
            workload="wrong",
            mismatch=mismatch(),
            layers=broken_layers(),
            fault="a-fault",
            bundle="bundles/a",
            causes=(Cause("lanes swapped", "lanes 0 and 1", 90, 93, 4, 1),),
            shape="8x4",
            shapes_tried=12,
            reruns=1,
            server="of-2",
            lost_server="of-1",
            on_host=[
                HostOperator("pad1", "relax.nn.pad", "padding"),
                HostOperator("pad2", "relax.nn.pad", "padding"),
            ],
        ),
        verdict(
            "mismatch",
            workload="kernel",
            mismatch=mismatch((3, 40), "NC"),
            layers=[],
            counters={},
            smallest=smallest,
        ),
        verdict("hazard", reason="the numbers agree", findings=[race], layers=[layer(1), layer(2, errors=1)]),
        verdict("hazard", workload="crowded", findings=crowd, layers=[]),
        verdict("unsupported", device="host", reason=HOSTILE, layers=[], counters={}),
        verdict(
            "device-missing",
            target="hexagon",
            reason="qemu-hexagon not found: apt-get install qemu-user",
            counters={},
            layers=[layer(1, verdict=None, count=None, counters={})],
        ),
        verdict("build-error", target="vta", reason="no", layers=[], counters={}),
        verdict("crash", target="vta", reason="signal 11", layers=[], counters={}),
        verdict("timeout", target="vta", reason="no result after 1 s", layers=[], counters={}),
    ]
    return Run({"python": "3.11", "ziglang": None}, 7, verdicts)


def exact_networks() -> Run:
    """Runs with many layers, all exact but for some that stay on the host."""
    layers = [
        layer(n, name=f"stage{n // 4}_block{n % 4}_convolution")
        if n % 3
        else layer(
            n, instruction=None, count=None, why_not="it has 96 groups; the kernels take one", counters={}
        )
        for n in range(54)
    ]
    targets = ("tensorcore", "hexagon", "vta")
    return Run(
        {"python": "3.11"}, None, [verdict(workload="deep", target=each, layers=layers) for each in targets]
    )
