#!/bin/sh
# Installs the browser in which the tests look at the report, where it is missing; goes on without it if it may not.
set -u
tried=.venv/chromium-tried
command -v chromium >/dev/null && exit 0
if [ ! -e "$tried" ]; then
    echo "setup: chromium is missing; installing it with apt for the tests of the report"
    setup/apt.sh chromium fonts-dejavu-core && command -v chromium >/dev/null && exit 0
    touch "$tried"
fi
echo "setup: NOT installed: chromium. The tests of the report in a browser will be skipped." >&2
echo "setup: to install it: sudo apt-get install chromium fonts-dejavu-core" >&2
exit 0
