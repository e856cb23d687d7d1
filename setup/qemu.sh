#!/bin/sh
# Installs QEMU's user mode, which runs Hexagon programs, where it is missing; goes on without it if it may not.
set -u
tried=.venv/qemu-tried
command -v qemu-hexagon >/dev/null && exit 0
if [ ! -e "$tried" ]; then
    echo "setup: qemu-hexagon is missing; installing qemu-user with apt"
    setup/apt.sh qemu-user && command -v qemu-hexagon >/dev/null && exit 0
    touch "$tried"
fi
echo "setup: NOT installed: qemu-hexagon. The target hexagon will be 'device-missing'." >&2
echo "setup: to install it: sudo apt-get install qemu-user" >&2
exit 0
