#!/usr/bin/env bash
# Installs what tests/browser.rs opens report.html with: playwright-core from npm, into a cache outside of the tree, and a
# Chromium from the distribution where none is there. Without npm or rights it says so, and those tests are skipped.
#   .config/browser.sh          installs what is missing
#   .config/browser.sh --path   prints the folder
set -euo pipefail

folder=${EDAMAME_GUARD_CLIENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/edamame-guard-clients}/browser
if [ "${1:-}" = --path ]; then
    echo "$folder"
    exit
fi
mkdir -p "$folder"

skip() {
    echo "browser: $1; the tests of report.html in a browser are skipped" >&2
    exit 0
}

if [ ! -d "$folder/node_modules/playwright-core" ]; then
    npm install --silent --no-audit --no-fund --prefix "$folder" playwright-core@1.65.1 >"$folder/npm.log" 2>&1 ||
        skip "playwright-core can't be installed (see $folder/npm.log)"
    echo "browser: playwright-core is in $folder"
fi
for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null && exit
done
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    skip "there is no Chromium, and no right to install one"
fi
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium >"$folder/apt.log" 2>&1 ||
    skip "Chromium can't be installed (see $folder/apt.log)"
