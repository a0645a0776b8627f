#!/usr/bin/env bash
# promtool.sh — bring promtool, with which tests check docker/*.yml, into .venv/bin; no root needed.
#
# One on PATH is taken; else it is unpacked from the package `prometheus` of Debian or Ubuntu, found
# through package lists of its own (the machine's may be old or missing).
set -euo pipefail
cd "$(dirname "$0")/.."
target=$PWD/.venv/bin/promtool

if [ -x "$target" ]; then exit 0; fi
if found=$(type -P promtool); then
    ln -sf "$found" "$target"
    exit 0
fi
printf '==> bringing promtool (20 MB) from the package prometheus into .venv/bin\n'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial"
apt() { apt-get -qq -o APT::Sandbox::User=root -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" "$@"; }
if ! { cd "$work" && apt update && apt download prometheus && dpkg -x prometheus_*.deb . &&
    install usr/bin/promtool "$target"; }; then
    echo "promtool.sh: can't get promtool with apt-get. Put promtool on PATH (it comes with" \
        "Prometheus, https://prometheus.io/download) and run this again." >&2
    exit 1
fi
