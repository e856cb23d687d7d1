"""The fixture: exact verdicts pass, all others say where and why."""

import pytest

from tests.pytest_plugin.repository import run_here, vta_tests


def test_an_exact_kernel_passes_and_counts(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        vta_tests("""
def test_dense(bitexact):
    verdict = bitexact.verify(KERNEL, REFERENCE, "vta", instruction="GEMM")
    assert verdict.exact
    assert verdict.tensor_instructions == 4
""")
    )
    result = run_here(pytester)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["bitexact: seed 0, device sim", "verdicts: 1 exact"])


def test_a_mismatch_fails_with_its_place(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(vta_tests("def test_dense(bitexact):\n    bitexact.verify(KERNEL, wrong, 'vta')\n"))
    result = run_here(pytester, "--bitexact-seed", "7")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "bitexact: seed 7, device sim",
            ">   *bitexact.verify(KERNEL, wrong, 'vta')",
            "E   * vta on sim: mismatch, in phase compare",
            "E   *mismatch between device and reference",
            "E   *first at      out, operator kernel",
            "E   *values        device *, reference 3",
            "E   *smallest      all operands zero but",
            "E   *seed * (of this call, with --bitexact-seed 7)",
            "FAILED *::test_dense - bitexact.NotEx*",
        ]
    )
    assert "fixture.py" not in result.stdout.str()


def test_a_graph_is_run_on_inputs_that_are_drawn_or_given(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import numpy as np
        from tests.bench.integer_graphs import dense

        def test_drawn(bitexact):
            verdict = bitexact.run(dense(8, 16, 32, data_dtype="int8", scheme="pow2"), target="vta")
            assert verdict.exact

        def test_given(bitexact):
            module = dense(8, 16, 32, data_dtype="int8", scheme="fixed")
            bitexact.run(module, np.ones((8, 16), np.int8), "vta")
    """)
    result = run_here(pytester, "--junit-xml", "log.xml")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["E *unsupported, in phase transform", "E *VTA can store int8 only"])
    drawn, given = (pytester.path / "log.xml").read_text().split("</testcase>")[:2]
    assert '"bitexact.seed"' in drawn
    assert '"bitexact.workload" value="test_drawn"' in drawn
    assert '"bitexact.seed"' not in given


class TestTargets:
    BODY = """
        import pytest

        def test_every(bitexact, bitexact_target):
            assert bitexact.target == bitexact_target

        @pytest.mark.bitexact_targets("vta", "hexagon")
        def test_two(bitexact, bitexact_target):
            assert bitexact.target == bitexact_target

        def test_default(bitexact):
            assert bitexact.target == "tensorcore"

        @pytest.mark.bitexact_targets("hexagon")
        def test_marked(bitexact):
            assert bitexact.target == "hexagon"
    """

    def test_by_default_a_test_runs_for_all_its_targets(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(self.BODY)
        result = run_here(pytester, "-v", "--strict-markers")
        result.assert_outcomes(passed=7)
        result.stdout.fnmatch_lines(["*test_every?hexagon? PASSED*", "*test_two?vta? PASSED*"])

    def test_an_option_chooses(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(self.BODY)
        result = run_here(pytester, "-v", "-rs", "--bitexact-target", "tensorcore")
        result.assert_outcomes(passed=2, skipped=3)
        result.stdout.fnmatch_lines(["SKIPPED *is of hexagon, and --bitexact-target is tensorcore"])

    def test_where_several_are_possible_it_is_asked_which(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(self.BODY)
        result = run_here(pytester, "--bitexact-target", "vta,tensorcore")
        result.assert_outcomes(passed=3, failed=1, skipped=1)
        result.stdout.fnmatch_lines(["the target could be vta or tensorcore: name one in the call, or take*"])


class TestMarkers:
    def test_devices_and_slow_cases(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile("""
            import pytest

            @pytest.mark.bitexact_devices("cuda", "rpc")
            def test_board(bitexact):
                assert bitexact.device == "rpc://127.0.0.1:9190"

            @pytest.mark.bitexact_slow
            def test_slow(bitexact):
                pass
        """)
        result = run_here(pytester, "-rs", "--strict-markers")
        result.assert_outcomes(skipped=2)
        result.stdout.fnmatch_lines(
            [
                "SKIPPED *needs a device cuda or rpc, and --bitexact-device is sim",
                "SKIPPED *slow: --bitexact-slow runs it",
            ]
        )
        result = run_here(pytester, "--bitexact-slow", "--bitexact-device", "rpc://127.0.0.1:9190")
        result.assert_outcomes(passed=2)

    def test_they_are_listed(self, pytester: pytest.Pytester) -> None:
        result = run_here(pytester, "--markers")
        for marker in (
            "bitexact_targets(",
            "bitexact_devices(",
            "bitexact_require_device:",
            "bitexact_slow:",
        ):
            result.stdout.fnmatch_lines([f"@pytest.mark.{marker}*"])

    @pytest.mark.parametrize(
        ("marker", "message"),
        [
            (
                "bitexact_devices('gpu')",
                "*unknown kind of device 'gpu': one of host, sim, *",
            ),
            ("bitexact_targets('gpu')", "*unknown target 'gpu': one of tensorcore, hexagon, vta"),
        ],
    )
    def test_a_wrong_one_is_an_error(self, marker: str, message: str, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(f"import pytest\n@pytest.mark.{marker}\ndef test_it(bitexact): pass")
        result = run_here(pytester)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([message])


class TestMissingDevice:
    BODY = """
        import pytest

        @pytest.fixture(autouse=True)
        def without_qemu(monkeypatch, tmp_path):
            monkeypatch.setenv("PATH", str(tmp_path))

        from tests.bench.integer_graphs import dense

        def test_dense(bitexact):
            bitexact.run(dense(8, 16, 32, data_dtype="uint8", scheme="fixed"), target="hexagon")
    """

    def test_it_skips_with_what_to_type(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(self.BODY)
        result = run_here(pytester, "-rs")
        result.assert_outcomes(skipped=1)
        result.stdout.fnmatch_lines(
            [
                "verdicts: 1 device-missing",
                "device-missing: qemu-hexagon not found: apt-get install qemu-user (1)",
                "SKIPPED *hexagon on sim: device-missing: *apt-get install qemu-user*",
            ]
        )

    def test_an_option_makes_it_a_failure(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(self.BODY)
        result = run_here(pytester, "--bitexact-require-device")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["E *hexagon on sim: device-missing, in phase run"])

    def test_a_marker_makes_it_a_failure(self, pytester: pytest.Pytester) -> None:
        marked = self.BODY.replace(
            "def test_dense", "@pytest.mark.bitexact_require_device\n        def test_dense"
        )
        pytester.makepyfile(marked)
        run_here(pytester).assert_outcomes(failed=1)

    def test_a_kernel_is_not_verified_on_the_host(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(
            vta_tests("def test_dense(bitexact):\n    bitexact.verify(KERNEL, REFERENCE, 'vta')\n")
        )
        result = run_here(pytester, "-rs", "--bitexact-device", "host")
        result.assert_outcomes(skipped=1)
        result.stdout.fnmatch_lines(
            ["SKIPPED *--bitexact-device is host, which executes no machine code of a kernel"]
        )

    def test_a_device_of_another_target_skips(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(vta_tests("def test_dense(bitexact): bitexact.verify(KERNEL, REFERENCE, 'vta')"))
        result = run_here(pytester, "-rs", "--bitexact-device", "cuda")
        result.assert_outcomes(skipped=1)
        result.stdout.fnmatch_lines(["SKIPPED *device cuda is a GPU: it runs * tensorcore, not vta*"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bitexact-target", "gpu"], "*--bitexact-target: unknown target 'gpu': one of tensorcore, *"),
        (["--bitexact-device", "fpga"], "*--bitexact-device: unknown device 'fpga': one of host, sim, *"),
        (
            ["--bitexact-seed", "soon"],
            "*--bitexact-seed: 'soon' is not a whole number from 0, *",
        ),
        (["--bitexact-timeout", "0"], "*--bitexact-timeout: '0' is not a number of seconds above 0"),
        (["--bitexact-waivers", "no.toml"], "*--bitexact-waivers: there is no file *no.toml"),
    ],
    ids=["target", "device", "seed", "timeout", "waivers"],
)
def test_a_wrong_option_is_a_usage_error(
    arguments: list[str], message: str, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile("def test_it(bitexact): pass")
    result = run_here(pytester, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


class TestProperties:
    def test_every_call_leaves_its_counters(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(
            vta_tests("""
def test_twice(bitexact):
    bitexact.verify(KERNEL, REFERENCE, "vta")
    bitexact.verify(KERNEL, wrong, "vta", seed=5)
""")
        )
        result = run_here(pytester, "--junit-xml", "log.xml")
        result.stdout.fnmatch_lines(["E *seed 5 (given in the call)"])
        log = (pytester.path / "log.xml").read_text()
        case = "test_every_call_leaves_its_counters.py::test_twice"
        for name, value in {
            "bitexact.case": case,
            "bitexact.workload": "test_twice",
            "bitexact.verdict": "exact",
            "bitexact.counter.tensor_instructions": "4",
            "bitexact#2.verdict": "mismatch",
            "bitexact#2.phase": "compare",
            "bitexact#2.seed": "5",
            "bitexact#2.reason": "device and reference differ first in out at *",
        }.items():
            assert f'<property name="{name}" value="{value.rstrip("*")}' in log, name
