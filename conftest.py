"""Settings of the test run that hold for every test."""

from hypothesis import settings

settings.register_profile("bitexact", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("bitexact")
