"""The pytest plugin: fixture, options and markers that verify kernels and graphs in a user's own tests.

docs/pytest.md shows how it is used. pytest loads :mod:`bench.pytest_plugin.plugin` wherever bitexact is
installed, so nothing here imports TVM or NumPy before a test asks for a verdict.
"""

from bench.pytest_plugin.identifiers import case_id

__all__ = ["case_id"]
