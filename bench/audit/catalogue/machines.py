"""Faults in simulators, and in what comes back from them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench.audit.fault import AuditFault
from bench.audit.planting import around, text_fault

_fault = partial(text_fault, "machine")


def _returned(change: Callable[[np.ndarray], None]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a machine's call change its result before it hands it over."""

    def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
        def changed(self: object, kernel: str, arguments: Any) -> Any:
            report = call(self, kernel, arguments)
            change(arguments[-1])
            return report

        return changed

    return wrap


def _last_not_written(output: np.ndarray) -> None:
    output.reshape(-1)[-1] ^= 1


def _uncounted(call: Callable[..., Any]) -> Callable[..., Any]:
    def changed(self: object, kernel: str, arguments: Any) -> Any:
        report = call(self, kernel, arguments)
        report.counters["tensor_instructions"] = 0
        return report

    return changed


def _nothing_computed(call: Callable[..., Any]) -> Callable[..., Any]:
    def changed(self: object, kernel: str, arguments: Any) -> Any:
        before = arguments[-1].copy()
        report = call(self, kernel, arguments)
        arguments[-1][...] = np.zeros_like(before)
        return report

    return changed


_MACHINES = {
    "tensorcore": "bench.devices.machines.tensorcore:TensorCoreMachine.call",
    "hexagon": "bench.devices.machines.hexagon:HexagonMachine.call",
    "vta": "bench.devices.machines.vta:VtaMachine.call",
}

FAULTS = [
    *(
        AuditFault(
            f"{target}-last-element-wrong",
            "machine",
            "of each result the machine gives back the last element with a bit flipped",
            f"device-agrees/{target}",
            around(call, _returned(_last_not_written)),
        )
        for target, call in _MACHINES.items()
    ),
    *(
        AuditFault(
            f"{target}-counts-nothing",
            "machine",
            "results are right, and the machine says that no tensor instruction was executed",
            f"not-vacuous/{target}",
            around(call, _uncounted),
        )
        for target, call in _MACHINES.items()
    ),
    *(
        AuditFault(
            f"{target}-gives-zeros",
            "machine",
            "the machine gives back zeros",
            f"device-agrees/{target}",
            around(call, _nothing_computed),
        )
        for target, call in _MACHINES.items()
    ),
    _fault(
        "ptx-products-one-less",
        "the PTX machine's tensor instruction gives one less than the sum of products",
        "device-agrees/tensorcore",
        function="simulators.ptx.tensor:_products",
        old="np.matmul(rows, columns)",
        new="np.matmul(rows, columns) - (np.abs(rows).sum() > 0)",
    ),
    _fault(
        "ptx-subtracts-backwards",
        "the PTX machine's sub takes the first operand from the second",
        "ptx-program",
        function="simulators.ptx.instructions.arithmetic:sub",
        old="return a - b",
        new="return b - a",
    ),
    _fault(
        "ptx-takes-empty-grids",
        "the PTX machine launches a grid of zero blocks",
        "ptx-refused",
        function="simulators.ptx.launch:_extent",
        old="if not 1 <= size <= limit:",
        new="if not 0 <= size <= limit:",
    ),
    _fault(
        "ptx-races-unseen",
        "the PTX machine does not compare who touched a place last",
        "ptx-findings",
        function="simulators.ptx.races:Races._check",
        old="if wrong.any():",
        new="if False:",
    ),
    _fault(
        "vta-hazards-unseen",
        "the VTA machine takes any two instructions for ordered",
        "vta-findings",
        function="simulators.vta.hazards:hazards",
        old="if len(pairs):",
        new="if len(pairs) < 0:",
    ),
    _fault(
        "vta-loses-bits-silently",
        "the VTA machine does not say that a store lost bits",
        "vta-findings",
        function="simulators.vta.memory:store",
        old="lost = int(np.count_nonzero(changed))",
        new="lost = 0",
    ),
    _fault(
        "vta-shift-unsigned",
        "the VTA machine shifts accumulators as unsigned numbers",
        "vta-program",
        function="simulators.vta.alu:_shift",
        old="return np.right_shift(x, min(y, bits - 1), out=place)",
        new="return (x.view(unsigned) >> unsigned.type(min(y, bits - 1))).view(x.dtype)",
    ),
    _fault(
        "vta-padding-not-zero",
        "the VTA machine's LOAD leaves in its padding what was there",
        "device-agrees/vta",
        function="simulators.vta.memory:load",
        old="target[:] = transfer.padding",
        new="pass",
    ),
    _fault(
        "vta-words-other-field",
        "instructions are encoded with the top padding one too large",
        "vta-words",
        function="simulators.vta.isa:encode",
        old="_bits(value, each, owner) << each.shift",
        new="_bits(value + (each.name == 'y_pad_0'), each, owner) << each.shift",
    ),
]
