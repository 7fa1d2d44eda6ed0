#!/bin/sh
# The sshd that tests/cluster connects to, on the loopback and with keys of its own. It is installed where that takes one
# command (root, and apt-get is there); elsewhere nothing happens, and the tests are skipped.
set -eu

have_sshd() { PATH=$PATH:/usr/sbin command -v sshd >/dev/null 2>&1; }

if have_sshd; then exit 0; fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -q && apt-get install -y -q --no-install-recommends openssh-server; } >/dev/null 2>&1 || true
fi
have_sshd || echo "no sshd here: the tests of calloff.cluster.ssh are skipped"
