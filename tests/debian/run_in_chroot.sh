#!/bin/sh
# Runs the tests under Debian's own Python, in a chroot.
#
#   tests/debian/run_in_chroot.sh [-d FOLDER] [-p PYTHON] SUITE [PYTEST ARGUMENT...]
#
# SUITE is a Debian suite with Python 3.11 or newer: trixie has 3.13, sid the
# newest.  PYTHON is another of the suite's Pythons than its default, by the
# name of its package: python3.15.  FOLDER is where the chroot is made, once
# (build/debian/SUITE); to renew it, remove it.  Without arguments for pytest, it
# runs the tests that depend most on the interpreter: those of the core and of
# the handles.
#
# What is tested is the last commit, built anew each time.  It needs root,
# debootstrap, util-linux and git, and is no part of `make test`.
#
# From this machine it takes Debian's mirror (MIRROR=... names another), name
# resolution, proxies, and pip's settings with the files and folders they name.
# All mounts are made in a mount namespace of this run's own: they end with it,
# however it ends, and whoever removes FOLDER meanwhile reaches nothing else.
set -eu

fail() {
    echo "run_in_chroot.sh: $*" >&2
    exit 2
}

usage="use it as tests/debian/run_in_chroot.sh [-d FOLDER] [-p PYTHON] SUITE [PYTEST ARGUMENT...]"
checkout=$(cd "$(dirname "$0")/../.." && pwd)
root=
python=
while getopts d:p: option; do
    case $option in
        d) root=$OPTARG ;;
        p) python=$OPTARG ;;
        *) fail "$usage" ;;
    esac
done
shift $((OPTIND - 1))
suite=${1-}
case $suite in
    '' | *[!a-z0-9-]*) fail "$usage" ;;
esac
case $python in
    *[!a-z0-9.]*) fail "-p takes the name of a Debian package, such as python3.15" ;;
esac
root=${root:-$checkout/build/debian/$suite}
case $root in
    *[[:space:]]*) fail "debootstrap takes no folder with a space: name another with -d" ;;
esac

[ "$(id -u)" -eq 0 ] || fail "only root can make a chroot: run it as root, or with sudo"
for tool in debootstrap unshare git tar; do
    command -v "$tool" >/dev/null || fail "there is no $tool: install it (apt-get install $tool)"
done

if [ "${SAFEHANDLE_CHROOT_MOUNTS-}" != private ]; then
    unshare --mount --propagation private true 2>/dev/null ||
        fail "this machine does not let root make a mount namespace: use one that does"
    SAFEHANDLE_CHROOT_MOUNTS=private exec unshare --mount --propagation private \
        "$checkout/tests/debian/run_in_chroot.sh" -d "$root" ${python:+-p "$python"} "$@"
fi
shift
[ $# -gt 0 ] || set -- tests/core tests/conformance tests/handles tests/marshal

# Beside FOLDER until it is whole, so that one that was cut short is not taken for one.
if [ ! -e "$root" ]; then
    mirror=${MIRROR-$(apt-get indextargets --format '$(REPO_URI)' 'Label: Debian' \
        2>/dev/null | sort -u | head -n 1)}
    echo "making a chroot with Debian $suite in $root (once; a few minutes)"
    rm -rf "$root.unfinished"
    mkdir -p "$root.unfinished"
    debootstrap --variant=minbase \
        --include=ca-certificates,gcc,libc6-dev,make,python3,python3-dev,python3-venv \
        "$suite" "$root.unfinished" ${mirror:+"$mirror"} >"$root.log" 2>&1 </dev/null || {
        tail -n 5 "$root.log" >&2
        fail "debootstrap could not make Debian $suite: $root.log tells all of it"
    }
    touch "$root.unfinished/etc/safehandle-chroot"
    mv "$root.unfinished" "$root"
fi
[ -e "$root/etc/safehandle-chroot" ] ||
    fail "$root is not a chroot that this script made: remove it, or name another folder with -d"
root=$(cd "$root" && pwd)

mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"

# How names are resolved, pip's settings, and what those name: files are copied,
# folders mounted.
take() {
    mkdir -p "$root$(dirname "$2")"
    rm -f "$root$2"
    [ ! -f "$1" ] || cp -L "$1" "$root$2"
}
for file in /etc/hosts /etc/resolv.conf /etc/pip.conf; do
    take "$file" "$file"
done
take "${XDG_CONFIG_HOME:-${HOME:-/root}/.config}/pip/pip.conf" /root/.config/pip/pip.conf
{
    env | grep '^PIP_' || true
    cat "$root/etc/pip.conf" "$root/root/.config/pip/pip.conf" "${PIP_CONFIG_FILE:-/dev/null}" \
        2>/dev/null || true
} | tr '=[:blank:]' '[\n*]' | sort -u | while read -r word; do
    case $word in
        file:///?*/*) path=$(dirname "${word#file://}") ;; # the packages lie beside the index
        /?*) path=$word ;;
        *) continue ;;
    esac
    if [ -f "$path" ]; then
        take "$path" "$path"
    elif [ -d "$path" ] && [ "$path" != / ]; then
        mkdir -p "$root$path"
        mount --bind "$path" "$root$path"
        mount -o remount,bind,ro "$root$path"
    fi
done

if [ -n "$python" ] && [ ! -e "$root/usr/share/doc/$python-venv" ]; then
    echo "installing $python in it (once; a minute)"
    chroot "$root" /usr/bin/env -i DEBIAN_FRONTEND=noninteractive \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /bin/sh -euc '
            apt-get -q update
            apt-get -q install --yes --no-install-recommends "$0" "$0-dev" "$0-venv"
        ' "$python" >"$root.$python.log" 2>&1 </dev/null || {
        tail -n 5 "$root.$python.log" >&2
        fail "Debian $suite has no $python that can be installed: $root.$python.log tells all of it"
    }
fi

# A fresh copy with fresh times: nothing built from another commit remains.
rm -rf "$root/checkout"
mkdir "$root/checkout"
git -c safe.directory="$checkout" -C "$checkout" archive HEAD | tar -x -m -C "$root/checkout"

# Only what a new login has, and what reaches the network.
set -- PYTHON="/usr/bin/${python:-python3}" VENV="/root/venv${python:+-$python}" \
    HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /bin/sh -euc '
        cd /checkout
        make PYTHON="$PYTHON" VENV="$VENV" "$VENV/installed"
        python=$VENV/bin/python
        unset PYTHON VENV
        "$python" -VV
        exec "$python" -m pytest "$@"
    ' run_in_chroot.sh "$@"
for name in $(env | sed -n -E 's/^(PIP_[A-Z_]+|[a-z]+_proxy|[A-Z]+_PROXY)=.*/\1/p'); do
    eval "set -- \"$name=\$$name\" \"\$@\""
done
exec chroot "$root" /usr/bin/env -i "$@"
