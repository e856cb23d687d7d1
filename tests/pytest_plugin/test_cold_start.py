"""The plugin is loaded in every session of whoever has bitexact: unused it costs next to nothing."""

import pytest

from tests.pytest_plugin.repository import run_apart

HEAVY = ("tvm", "tvm_ffi", "numpy", "ml_dtypes", "rich", "tabulate", "filelock", "tomlkit", "psutil")


def test_nothing_heavy_is_imported_before_the_fixture_is_used(pytester: pytest.Pytester) -> None:
    (pytester.path / "bitexact-waivers.toml").write_text(
        '[[waiver]]\ncase = "elsewhere"\nphase = "run"\nreason = "issue 3"\n'
    )
    pytester.makepyfile(f"""
        import sys

        from bench.pytest_plugin import case_id

        def loaded():
            return sorted(set(sys.modules) & set({HEAVY!r}))

        def test_nothing(bitexact):
            assert case_id("vta", "dense", shapes=((8, 16),)) == "vta-dense-8x16"
            assert bitexact.target == "hexagon"
            assert loaded() == []

        def test_drawing_needs_numpy_alone(bitexact):
            bitexact.rng()
            assert loaded() == ["numpy"]
    """)
    arguments = ["-p", "no:hypothesispytest", "-p", "no:xdist", "--bitexact-target", "hexagon"]
    run_apart(pytester, *arguments, "--junit-xml", "log.xml").assert_outcomes(passed=2)


@pytest.mark.parametrize(
    "line", ["", "import kernels.vta.dense", "from simulators import wmma"], ids=["fixture", "module", "name"]
)
def test_a_package_of_the_same_name_is_said(line: str, pytester: pytest.Pytester) -> None:
    """``python -m pytest`` puts the folder of the repository first, and many have a package of kernels."""
    for name in ("kernels", "simulators"):
        (pytester.path / name).mkdir()
        (pytester.path / name / "__init__.py").touch()
    pytester.makepyfile(f"{line}\ndef test_it(bitexact): pass")
    result = run_apart(pytester, "-p", "no:xdist")
    result.assert_outcomes(errors=1)
    message = "*'import kernels' finds *kernels*__init__.py instead of the package that bitexact brings*"
    result.stdout.fnmatch_lines([message])
