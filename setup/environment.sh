#!/bin/sh
# Makes .venv with every package of requirements.lock and bitexact itself. Usage: environment.sh PYTHON
set -eu
python=$1

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "bitexact needs Python 3.11 or newer, and $python is not: make PYTHON=/path/to/python3.11" >&2
    exit 1
fi
# Debian and Ubuntu keep a part of the module venv in a package of its own.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "setup: $python cannot make virtual environments; installing python$version-venv with apt"
    setup/apt.sh "python$version-venv" || {
        echo "setup: install it yourself: sudo apt-get install python$version-venv" >&2
        exit 1
    }
fi
[ -x .venv/bin/python ] || "$python" -m venv .venv
echo "setup: installing the packages of requirements.lock into .venv (once, some minutes)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
touch .venv/installed
