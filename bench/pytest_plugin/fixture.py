"""The fixture ``bitexact``: verdicts that fail the test unless they are exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from bench.pytest_plugin import properties
from bench.pytest_plugin.case import TARGET_FIXTURE, case_of, default_target, seed_of
from bench.pytest_plugin.markers import REQUIRE_MARKER
from bench.pytest_plugin.options import Settings
from bench.pytest_plugin.phases import phase_of
from bench.pytest_plugin.waivers import Waiver

if TYPE_CHECKING:
    import numpy as np
    import tvm

    from bench.compare.verdict import Verdict
    from bench.pipeline import Inputs
    from bench.workloads import Workload


class NotExact(AssertionError):  # noqa: N818 - pytest shows the name, and it says it best
    """A verdict that is not exact; ``phase`` is where it went wrong."""

    def __init__(self, message: str, *, verdict: Verdict, phase: str) -> None:
        super().__init__(message)
        self.verdict, self.phase = verdict, phase


NotExact.__module__ = "bitexact"  # in the lines of a failure, where there is no room for more


class Bitexact:
    """Verifies kernels and graphs for one test.

    ``case`` is the test's id, ``session_seed`` what ``--bitexact-seed`` says, ``seed`` the test's own, made
    of these two, and ``device`` what ``--bitexact-device`` names.
    """

    def __init__(self, item: pytest.Item, settings: Settings, waiver: Waiver | None = None) -> None:
        self._item, self._settings, self._waiver = item, settings, waiver
        self._calls = 0
        self.case = case_of(item)
        self.session_seed = settings.seed
        self.seed = seed_of(settings.seed, self.case)
        self.device = settings.device
        item.user_properties.append((properties.CASE, self.case))

    def __repr__(self) -> str:
        return f"<bitexact on {self.device}, seed {self.seed}>"

    @property
    def target(self) -> str:
        """The target of calls that name none."""
        target = default_target(self._item, self._settings)
        if isinstance(target, str):
            return target
        pytest.fail(
            f"the target could be {' or '.join(target)}: name one in the call, or take the fixture "
            f"{TARGET_FIXTURE}, which runs the test once for each",
            pytrace=False,
        )

    def rng(self) -> np.random.Generator:
        """A generator of the test's own, which gives the same numbers in every run with the same seed."""
        import numpy as np

        return np.random.default_rng(self.seed)

    def verify(
        self,
        kernel: Any,
        reference: Any = None,
        target: str | None = None,
        device: str | None = None,
        *,
        seed: int | None = None,
        **options: Any,
    ) -> Verdict:
        """Hold a kernel to a reference: :func:`bench.verify` with the session's target, device and limit.

        Operands are drawn from ``seed``, by default one of this call of this test. The test fails unless the
        verdict is exact, and is skipped where the device is missing.
        """
        __tracebackhide__ = True
        from bench.verification.verify import DEVICES, verify

        target = target or self.target
        if device is None and self.device not in DEVICES:
            pytest.skip(f"kernels are verified on {', '.join(DEVICES)}; --bitexact-device is {self.device}")
        drawn = self._next_seed(seed)
        options.setdefault("name", self._item.name)
        verdict = verify(
            kernel, reference, target, device or self.device, **self._defaults(options, seed=drawn)
        )
        return self._judge(verdict, seed=drawn)

    def run(
        self,
        mod: tvm.IRModule,
        inputs: Inputs | None = None,
        target: str | None = None,
        device: str | None = None,
        *,
        seed: int | None = None,
        **options: Any,
    ) -> Verdict:
        """Take an integer graph to a verdict: :func:`bench.run` with the session's target, device and limit.

        Inputs that are not given are drawn over the whole range of their types from ``seed``, by default one
        of this call of this test. The test fails unless the verdict is exact, and is skipped where the device
        is missing.
        """
        __tracebackhide__ = True
        from bench.pipeline import run

        target = target or self.target
        drawn = self._next_seed(seed) if inputs is None else None
        if inputs is None:
            inputs = _drawn(mod, drawn or 0)
        options.setdefault("workload", self._item.name)
        verdict = run(mod, inputs, target, device or self.device, **self._defaults(options))
        return self._judge(verdict, seed=drawn)

    def run_workload(
        self, workload: Workload, target: str | None = None, device: str | None = None, **options: Any
    ) -> Verdict:
        """Quantise a network as the target needs it and take it to a verdict: what ``bitexact run`` does.

        The test fails unless the verdict is exact, and is skipped where the device is missing.
        """
        __tracebackhide__ = True
        from bench.workload_run import run_workload

        target = target or self.target
        verdict = run_workload(workload, target, device or self.device, **self._defaults(options))
        return self._judge(verdict, seed=None)

    def _origin(self, seed: int) -> str:
        """Where the seed of the last call comes from."""
        own = seed == seed_of(self.session_seed, self.case, self._calls)
        return f"of this call, with --bitexact-seed {self.session_seed}" if own else "given in the call"

    def _next_seed(self, given: int | None) -> int:
        own = seed_of(self.session_seed, self.case, self._calls + 1)
        return own if given is None else given

    def _defaults(self, options: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"timeout": self._settings.timeout, **more, **options}

    def _judge(self, verdict: Verdict, *, seed: int | None) -> Verdict:
        """Record a verdict; go on only if it is exact."""
        __tracebackhide__ = True
        self._calls += 1
        phase = phase_of(verdict)
        reason = _first_line(verdict)
        self._item.user_properties += properties.of_call(
            self._calls, verdict, phase=phase, reason=reason, seed=seed
        )
        if phase is None:
            return verdict
        missing = verdict.verdict == "device-missing"
        required = self._settings.require_device or self._item.get_closest_marker(REQUIRE_MARKER)
        if missing and not required:
            pytest.skip(f"{verdict.target} on {verdict.device}: device-missing: {verdict.reason}")
        raise NotExact(self._message(verdict, phase, seed), verdict=verdict, phase=phase)

    def _message(self, verdict: Verdict, phase: str, seed: int | None) -> str:
        from bench.reports.table import details

        lines = [f"{verdict.target} on {verdict.device}: {verdict.verdict}, in phase {phase}"]
        lines.append(details(verdict))
        if seed is not None:
            lines.append(f"seed {seed} ({self._origin(seed)})")
        if self._waiver and self._waiver.phase != phase:
            lines.append(f"a waiver expects it to fail in phase {self._waiver.phase}: {self._waiver.reason}")
        return "\n".join(line for line in lines if line)


def _first_line(verdict: Verdict) -> str | None:
    """Why a verdict is not exact, in a line."""
    if verdict.reason:
        return verdict.reason.strip().partition("\n")[0]
    if verdict.mismatch:
        found = verdict.mismatch
        coordinate = ", ".join(f"{axis.lower()}={position}" for axis, position in found.coordinate.items())
        return f"{found.between} differ first in {found.binding} at {coordinate}"
    return None


def _drawn(mod: tvm.IRModule, seed: int) -> Sequence[np.ndarray]:
    import numpy as np

    from bench.artifact import TensorSpec
    from bench.verification.inputs import draw

    rng = np.random.default_rng(seed)
    return [
        draw(
            TensorSpec(
                parameter.name, tuple(int(extent) for extent in parameter.ty.shape), str(parameter.ty.dtype)
            ),
            rng,
        )
        for parameter in mod["main"].params
    ]
