#!/bin/sh
# The terminal that the test of `calloff top` runs in: tmux of the system. It is installed where that takes one command
# (root, and apt-get is there); elsewhere nothing happens, and the test is skipped.
set -eu

if command -v tmux >/dev/null 2>&1; then exit 0; fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -q && apt-get install -y -q --no-install-recommends tmux; } >/dev/null 2>&1 || true
fi
command -v tmux >/dev/null 2>&1 || echo "no tmux here: the test of calloff top in a terminal is skipped"
