#!/bin/sh
# The databases that the tests of tests/borders start for themselves: PostgreSQL, MariaDB and Redis of the system. They are
# installed where that takes one command (root, and apt-get is there); elsewhere nothing happens, and the tests are skipped.
set -eu

missing() {
    found=""
    ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || found="$found postgresql"
    [ -x /usr/sbin/mariadbd ] || found="$found mariadb-server"
    command -v redis-server >/dev/null 2>&1 || found="$found redis-server"
    echo "$found"
}

wanted=$(missing)
if [ -n "$wanted" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    export DEBIAN_FRONTEND=noninteractive
    # what asks whether a service may be started when it is installed is told: no
    policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then policy=""; else printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"; fi
    # shellcheck disable=SC2086
    { apt-get update -q && apt-get install -y -q --no-install-recommends $wanted; } >/dev/null 2>&1 || true
    [ -z "$policy" ] || rm -f "$policy"
fi
wanted=$(missing)
[ -z "$wanted" ] || echo "not here:$wanted; the tests with them are skipped"
