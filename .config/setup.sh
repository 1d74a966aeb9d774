#!/usr/bin/env bash
# Installs what building and testing need and this machine lacks, from the distribution's own packages.
# It changes nothing when all is there, and it never downloads a Rust toolchain.
set -euo pipefail
cd "$(dirname "$0")/.."

# Package, and the program or header that shows it is there, whoever installed it.
needed="
gcc              cc
libc6-dev        /usr/include/stdio.h
make             make
clang            clang
pkg-config       pkg-config
libelf-dev       /usr/include/libelf.h
zlib1g-dev       /usr/include/zlib.h
git              git
iproute2         ip
util-linux       unshare
curl             curl
rsync            rsync
ca-certificates  /etc/ssl/certs/ca-certificates.crt
"

# Tools of the system folder are there for root even where a user's path leaves it out.
PATH=$PATH:/usr/sbin:/sbin

missing=()
while read -r package sign; do
    [ -n "$package" ] || continue
    case "$sign" in
        /*) [ -e "$sign" ] || missing+=("$package") ;;
        *) command -v "$sign" >/dev/null || missing+=("$package") ;;
    esac
done <<<"$needed"

if [ ${#missing[@]} -eq 0 ]; then
    echo "setup: every package is there; nothing to install"
else
    echo "setup: missing: ${missing[*]}"
    if ! command -v apt-get >/dev/null; then
        echo "error: this installs packages with apt-get (Debian 12, Ubuntu 22.04, 24.04), which is not here" >&2
        echo "hint: install what your distribution calls these, then try again: ${missing[*]}" >&2
        exit 1
    fi
    as_root=()
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "error: installing packages needs root, and there is no sudo" >&2
            echo "hint: as root: apt-get install ${missing[*]}" >&2
            exit 1
        fi
        as_root=(sudo)
    fi
    echo "setup: ${as_root[*]:+${as_root[*]} }apt-get update"
    "${as_root[@]}" apt-get update -qq
    echo "setup: ${as_root[*]:+${as_root[*]} }apt-get install ${missing[*]}"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null
fi

cargo=$(.config/cargo.sh --path)
echo "setup: Rust toolchain: $cargo"
