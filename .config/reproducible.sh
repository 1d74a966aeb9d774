#!/usr/bin/env bash
# Builds the release binary of HEAD twice, in two folders, and compares the two: whoever builds a tag gets the file that was
# released. Takes two whole release builds; leaves the binary in a folder, if one is named.
#   .config/reproducible.sh [FOLDER]
# TARGET is another target triple; RUSTUP_TOOLCHAIN another toolchain than the one that cargo takes by itself.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${1:-}
target=${TARGET:-$(uname -m)-unknown-linux-gnu}
cargo=$(.config/cargo.sh --path)
CARGO_HOME=${CARGO_HOME:-$HOME/.cargo}
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export CARGO_HOME SOURCE_DATE_EPOCH
if [ -n "$(git status --porcelain --untracked-files=no)" ]; then
    echo "reproducible: what is changed here and not committed is left out; HEAD is built" >&2
fi

places=$(mktemp -d)
clean() {
    for place in "$places"/*/guard; do
        git worktree remove --force "$place" || true
    done
    rm -rf "$places"
}
trap clean EXIT

binary() { # PLACE: where its program lies
    echo "$places/$1/guard/target/$target/release/edamame-guard"
}

# Names of different length: what keeps a path in the program has other offsets then as well.
for place in first the-second-one; do
    mkdir "$places/$place"
    git worktree add --quiet --detach "$places/$place/guard" HEAD
    folder=$(cd "$places/$place/guard" && pwd -P)
    echo "reproducible: building in $folder" >&2
    (
        cd "$folder"
        # The C of our dependencies is compiled by the same folders.
        map="-ffile-prefix-map=$folder=/guard -ffile-prefix-map=$CARGO_HOME=/cargo -ffile-prefix-map=$HOME=/home"
        export CFLAGS="${CFLAGS:-} $map" CXXFLAGS="${CXXFLAGS:-} $map"
        export RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=$folder=/guard --remap-path-prefix=$HOME=/home --remap-path-prefix=$CARGO_HOME=/cargo"
        unset CARGO_ENCODED_RUSTFLAGS CARGO_TARGET_DIR
        "$cargo" build --release --locked --target "$target" --bin edamame-guard >&2
    )
done

for place in first the-second-one; do
    sha256sum "$(binary "$place")"
done
if ! cmp "$(binary first)" "$(binary the-second-one)"; then
    echo "reproducible: the two differ; \`diffoscope\` tells where" >&2
    if [ -n "$out" ]; then
        mkdir -p "$out"
        cp "$(binary first)" "$out/first"
        cp "$(binary the-second-one)" "$out/second"
    fi
    exit 1
fi
echo "reproducible: the same file, $(stat -c %s "$(binary first)") bytes"
if [ -n "$out" ]; then
    mkdir -p "$out"
    cp "$(binary first)" "$out/edamame-guard"
fi
