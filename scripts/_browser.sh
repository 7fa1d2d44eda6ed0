#!/bin/sh
# The browser that the tests of the page and scripts/screenshot drive: Chromium of the system. It is installed where
# that takes one command (root, and apt-get is there); elsewhere nothing happens, and the tests are skipped.
set -eu

have_browser() {
    for name in chromium chromium-browser google-chrome; do
        command -v "$name" >/dev/null 2>&1 && return
    done
    return 1
}

if have_browser; then exit 0; fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -q && apt-get install -y -q --no-install-recommends chromium fonts-inter; } >/dev/null 2>&1 || true
fi
have_browser || echo "no Chromium here: the tests of the page in a browser are skipped"
