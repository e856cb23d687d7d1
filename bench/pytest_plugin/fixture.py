"""The fixture ``bitexact``: verdicts that fail the test unless they are exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench.pytest_plugin import keeping, properties
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
    from bench.trace import Trace
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

    def __init__(
        self,
        item: pytest.Item,
        settings: Settings,
        *,
        waiver: Waiver | None = None,
        bundles: Callable[[], Path | None] | None = None,
    ) -> None:
        """``bundles`` says where failing cases are kept; it is asked when there is one."""
        self._item, self._settings, self._waiver, self._bundles = item, settings, waiver, bundles
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
        from bench.trace import Trace
        from bench.verification.verify import verify

        target = target or self.target
        if device is None and self.device == "host":
            pytest.skip("--bitexact-device is host, which executes no machine code of a kernel")
        device = device or self._device_for(target)
        drawn = self._next_seed(seed)
        options.setdefault("name", self._item.name)
        trace = options.setdefault("trace", Trace())
        verdict = verify(kernel, reference, target, device, **self._defaults(options, seed=drawn))
        return self._judge(verdict, trace, seed=drawn)

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
        from bench.trace import Trace

        target = target or self.target
        device = device or self._device_for(target)
        drawn = self._next_seed(seed) if inputs is None else None
        if inputs is None:
            inputs = _drawn(mod, drawn or 0)
        options.setdefault("workload", self._item.name)
        trace = options.setdefault("trace", Trace())
        verdict = run(mod, inputs, target, device, **self._defaults(options))
        return self._judge(verdict, trace, seed=drawn)

    def run_workload(
        self, workload: Workload, target: str | None = None, device: str | None = None, **options: Any
    ) -> Verdict:
        """Quantise a network as the target needs it and take it to a verdict: what ``bitexact run`` does.

        The test fails unless the verdict is exact, and is skipped where the device is missing.
        """
        __tracebackhide__ = True
        from bench.trace import Trace
        from bench.workload_run import run_workload

        target = target or self.target
        device = device or self._device_for(target)
        trace = options.setdefault("trace", Trace())
        verdict = run_workload(workload, target, device, **self._defaults(options))
        return self._judge(verdict, trace, seed=None)

    def replay(self, bundle: Path | str, device: str | None = None, **options: Any) -> Verdict:
        """Run a bundle again (:func:`bench.bundles.replay`), on its own device unless one is named.

        The test fails unless the verdict is exact now, and is skipped where the device is missing.
        """
        __tracebackhide__ = True
        from bench.bundles import read, replay
        from bench.commands.replay import compared
        from bench.trace import Trace

        held = read(bundle)
        trace = options.setdefault("trace", Trace())
        verdict = replay(held, device=device or self._settings.asked_device, **self._defaults(options))
        return self._judge(verdict, trace, seed=None, more=compared(held, verdict))

    def _device_for(self, target: str) -> str:
        """The session's device; the test is skipped where it is none for this target."""
        __tracebackhide__ = True
        from bench.devices.names import check_target

        try:
            check_target(self.device, target)
        except ValueError as error:
            pytest.skip(str(error))
        return self.device

    def _origin(self, seed: int) -> str:
        """Where the seed of the last call comes from."""
        own = seed == seed_of(self.session_seed, self.case, self._calls)
        return f"of this call, with --bitexact-seed {self.session_seed}" if own else "given in the call"

    def _next_seed(self, given: int | None) -> int:
        own = seed_of(self.session_seed, self.case, self._calls + 1)
        return own if given is None else given

    def _defaults(self, options: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"timeout": self._settings.timeout, **more, **options}

    def _judge(self, verdict: Verdict, trace: Trace, *, seed: int | None, more: str = "") -> Verdict:
        """Record a verdict, keep what is asked for, and go on only if the verdict is exact."""
        __tracebackhide__ = True
        self._calls += 1
        phase = phase_of(verdict)
        notes = [more]
        if phase and self._bundles and not (self._waiver and self._waiver.phase == phase):
            notes.append(keeping.keep_bundle(self._bundles(), self.case, verdict, trace, seed) or "")
        artifact = None
        if self._settings.artifacts and trace.artifact:
            artifact = keeping.keep_artifact(self._settings.artifacts, self.case, self._calls, trace.artifact)
        self._item.user_properties += properties.of_call(
            self._calls,
            verdict,
            phase=phase,
            reason=_first_line(verdict),
            seed=seed,
            artifact=artifact,
            bundle=verdict.bundle,
        )
        if phase is None:
            return verdict
        missing = verdict.verdict == "device-missing"
        required = self._settings.require_device or self._item.get_closest_marker(REQUIRE_MARKER)
        if missing and not required:
            pytest.skip(f"{verdict.target} on {verdict.device}: device-missing: {verdict.reason}")
        raise NotExact(self._message(verdict, phase, seed, notes), verdict=verdict, phase=phase)

    def _message(self, verdict: Verdict, phase: str, seed: int | None, notes: Sequence[str]) -> str:
        from bench.reports.table import details

        lines = [f"{verdict.target} on {verdict.device}: {verdict.verdict}, in phase {phase}"]
        lines.append(details(verdict))
        if seed is not None:
            lines.append(f"seed {seed} ({self._origin(seed)})")
        if self._waiver and self._waiver.phase != phase:
            lines.append(f"a waiver expects it to fail in phase {self._waiver.phase}: {self._waiver.reason}")
        return "\n".join(line for line in [*lines, *notes] if line)


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
