"""``python -m bench`` is ``bitexact``."""

import sys

from bench.cli import main

sys.exit(main())
