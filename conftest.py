"""Settings of the test run that hold for every test."""

import os
import signal
from importlib.metadata import entry_points

from hypothesis import settings

# Tuning records of whoever runs the tests change the kernels: none are read, unless a test names a folder.
os.environ["BITEXACT_TUNING"] = ""
# Failing cases are kept by the tests of that, and nowhere else.
os.environ["BITEXACT_BUNDLES"] = "none"

# A shell lets what it starts in the background ignore Ctrl-C, and so would what tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Where bitexact is installed pytest has loaded its plugin already, under the name of the entry point.
_installed = "bitexact" in entry_points(group="pytest11").names
pytest_plugins = ["pytester"] if _installed else ["pytester", "bench.pytest_plugin.plugin"]

settings.register_profile("bitexact", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("bitexact")
