"""Settings of the test run that hold for every test."""

import os

from hypothesis import settings

# Tuning records of whoever runs the tests change the kernels: none are read, unless a test names a folder.
os.environ["BITEXACT_TUNING"] = ""
# Failing cases are kept by the tests of that, and nowhere else.
os.environ["BITEXACT_BUNDLES"] = "none"

settings.register_profile("bitexact", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("bitexact")
