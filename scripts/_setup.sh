# Sourced by the scripts beside it. It makes the project's environment in .venv and keeps it in step with uv.lock.
#
# Three depths: "run" is calloff alone (it needs nothing else), "bench" adds the peers that benchmarks/ measures, "test"
# the tools of the test job. A stamp in .venv remembers for which lock file, and in which folder, a depth was last set
# up, so that a second call costs a checksum.
# uv does the work: the one on PATH, or else one that pip installs into .venvs/uv.

UV_VERSION=0.13.9

root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# The real path of the Python to use: python3 where it is new enough, otherwise the newest other one that is.
find_python() {
    probe='import sys
if sys.version_info < (3, 11): sys.exit(1)
print(getattr(sys, "_base_executable", None) or sys.executable)'
    for name in python3 python3.15 python3.14 python3.13 python3.12 python3.11 python; do
        "$name" -c "$probe" 2>/dev/null && return
    done
    for path in "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.*/bin/python3; do
        "$path" -c "$probe" 2>/dev/null && return
    done
    return 1
}

# Sets UV to a uv that is new enough (pyproject.toml: required-version), installing one if need be.
find_uv() {
    case $(uv --version 2>/dev/null) in
        '' | 'uv 0.'[0-6].*) UV=$root/.venvs/uv/bin/uv ;;
        *) UV=$(command -v uv) ;;
    esac
    export UV
    "$UV" --version >/dev/null 2>&1 && return
    find_base_python
    say "Setting up: uv is not on PATH, installing it into .venvs/uv"
    log=$root/.venvs/uv.log
    mkdir -p "$root/.venvs"
    { "$base_python" -m venv --clear "$root/.venvs/uv" &&
        "$root/.venvs/uv/bin/python" -m pip install --disable-pip-version-check -q "uv==$UV_VERSION"; } >"$log" 2>&1 || {
        cat "$log" >&2
        die "uv could not be installed; $base_python needs its venv and pip modules, and the package index must be in reach."
    }
}

find_base_python() {
    [ -n "${base_python:-}" ] || base_python=$(find_python) ||
        die "calloff needs Python 3.11 or newer, and no such python3 was found on PATH."
}

# uv, and once more with the system's certificates where its own are not enough (a company's registry, say).
quiet_uv() {
    log=$root/.venvs/sync.log
    mkdir -p "$root/.venvs"
    "$UV" "$@" >"$log" 2>&1 && return
    if grep -qi certificate "$log"; then
        UV_SYSTEM_CERTS=1 "$UV" "$@" >"$log" 2>&1 && return
    fi
    cat "$log" >&2
    return 1
}

# Environments hold their own absolute path: those of a project folder that was moved or copied are of no use.
forget_if_moved() {
    if [ -d "$root/.venv" ] && [ "$(cat "$root/.venvs/made-in" 2>/dev/null)" != "$root" ]; then
        rm -rf "$root/.venv" "$root/.venvs"
    fi
    mkdir -p "$root/.venvs"
    printf '%s\n' "$root" >"$root/.venvs/made-in"
}

fingerprint() { printf '%s ' "$root"; cat "$root/uv.lock" "$root/pyproject.toml" | cksum; }

# setup run|bench|test
setup() {
    unset VIRTUAL_ENV
    print=$(fingerprint)
    stamp=$root/.venv/.calloff-$1
    if [ -x "$root/.venv/bin/calloff" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$print" ]; then
        return
    fi
    find_base_python
    forget_if_moved
    find_uv
    say "Setting up .venv for this project ($1) ..."
    rm -f "$root/.venv"/.calloff-*
    export UV_PROJECT_ENVIRONMENT="$root/.venv"
    case $1 in
        run) quiet_uv sync --project "$root" --python "$base_python" --locked --no-default-groups --inexact ;;
        bench) quiet_uv sync --project "$root" --python "$base_python" --locked --no-default-groups --group bench --inexact ;;
        test) quiet_uv sync --project "$root" --python "$base_python" --locked --group docs --inexact ;;
    esac || die "The environment could not be set up; see above."
    unset UV_PROJECT_ENVIRONMENT
    printf '%s\n' "$print" >"$root/.venv/.calloff-run"
    [ "$1" = run ] || printf '%s\n' "$print" >"$root/.venv/.calloff-$1"
}
