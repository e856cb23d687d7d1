#!/bin/sh
# Installs Debian packages if this user may, and says so if not. Usage: apt.sh PACKAGE...
set -eu
if ! command -v apt-get >/dev/null; then
    echo "setup: there is no apt-get here" >&2
    exit 1
elif [ "$(id -u)" = 0 ]; then
    as_root=
elif sudo -n true 2>/dev/null; then
    as_root="sudo -n DEBIAN_FRONTEND=noninteractive"
else
    echo "setup: installing $* needs root, and sudo asks for a password" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { $as_root apt-get update && $as_root apt-get install --yes --no-install-recommends "$@"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    exit 1
fi
rm -f "$log"
