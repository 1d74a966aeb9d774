#!/usr/bin/env bash
# Installs what some trials use into TRIAL_TOOLS (default /tmp/trial-tools), with the ordinary clients; once, online.
set -eu
to=${TRIAL_TOOLS:-/tmp/trial-tools}
mkdir -p "$to/deb" "$to/root" "$to/trial-bin"
[ -d "$to/venv" ] || python3 -m venv "$to/venv"
"$to/venv/bin/pip" install -q pytest requests tox uv poetry cmake ninja setuptools wheel
npm install --no-save --no-audit --no-fund --prefix "$to/node" jest vitest pnpm@9 yarn@1 husky esbuild eslint typescript prettier
cd "$to/deb"
apt-get download openssh-server openssh-sftp-server ccache libhiredis0.14 libwrap0 hello
for package in openssh-* ccache_* libhiredis* libwrap0_*; do dpkg -x "$package" "$to/root"; done
