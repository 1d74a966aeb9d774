#!/usr/bin/env bash
# Runs cargo with the arguments given, wherever the person's toolchain is.
#
# Under sudo the toolchain is usually in the home of the person who called sudo and not on root's path, and files that
# root writes to target/ are in that person's way later. So a build runs as that person. Tests stay root, because the
# kernel tests need it.
#   .config/cargo.sh build …     as the person who called sudo
#   .config/cargo.sh test …      compiles as that person, then runs as root
#   .config/cargo.sh --path      prints the cargo that is used, or says how to get one
set -euo pipefail
cd "$(dirname "$0")/.."

wanted=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' Cargo.toml)

person=
home=$HOME
if [ "$(id -u)" = 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
    home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    # A tree that the person can't write to was checked out by root, so root builds it.
    if runuser -u "$SUDO_USER" -- test -w . && { [ ! -e target ] || runuser -u "$SUDO_USER" -- test -w target; }; then
        person=$SUDO_USER
    fi
fi
export CARGO_HOME=${CARGO_HOME:-$home/.cargo} RUSTUP_HOME=${RUSTUP_HOME:-$home/.rustup}

as_person() {
    if [ -n "$person" ]; then
        HOME=$home USER=$person LOGNAME=$person runuser -u "$person" -- "$@"
    else
        "$@"
    fi
}

is_enough() { # VERSION: as new as the package wants, or newer
    [ "$(printf '%s\n%s\n' "$wanted" "$1" | sort -V | head -n 1)" = "$wanted" ]
}

found=
cargo=
for candidate in "$(command -v cargo || true)" "$CARGO_HOME/bin/cargo" "$home/.cargo/bin/cargo" /usr/local/cargo/bin/cargo; do
    [ -x "$candidate" ] || continue
    version=$(as_person "$candidate" --version 2>/dev/null | cut -d' ' -f2) || continue
    [ -n "$version" ] || continue
    found="${found:-the newest found is $version, $candidate}"
    if is_enough "$version"; then
        cargo=$candidate
        break
    fi
done
if [ -z "$cargo" ]; then
    echo "error: Rust $wanted or newer is needed; ${found:-no cargo was found}" >&2
    echo "hint: rust-lang.org/tools/install tells how to get it. Ubuntu 24.04 and newer also have it as a package:" >&2
    echo "      apt-get install rustup && rustup default stable" >&2
    exit 1
fi
PATH=$(dirname "$cargo"):$PATH
export PATH

case "${1:-}" in
    --path) echo "$cargo" ;;
    test)
        if [[ " $* " == *" --doc "* ]]; then
            # Examples in the documentation need no kernel, and cargo can't compile them ahead.
            as_person "$cargo" "$@"
            exit
        fi
        if [ -n "$person" ]; then
            # Only options before `--` are cargo's, and compiling needs no more than those.
            compile=()
            for word in "${@:2}"; do
                [ "$word" != -- ] || break
                compile+=("$word")
            done
            as_person "$cargo" test --no-run "${compile[@]}"
        fi
        exec "$cargo" "$@"
        ;;
    *) as_person "$cargo" "$@" ;;
esac
