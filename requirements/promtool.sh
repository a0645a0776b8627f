#!/usr/bin/env bash
# promtool.sh — put promtool, which tests deploy/monitoring/*.yml, into .venv/bin. Needs no root.
#
# If promtool is on PATH, it is linked. Otherwise it is unpacked from the package `promtool`, or
# `prometheus` up to Debian 12, found through separate package lists, as the machine's may be old or
# missing.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$PWD/.venv/bin/promtool

if [ -x "$target" ]; then exit 0; fi
if found=$(type -P promtool); then
    ln -sf "$found" "$target"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial"
apt() { apt-get -qq -o APT::Sandbox::User=root -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" "$@"; }
unpack() {
    cd "$work" && apt update && { apt download promtool || apt download prometheus; } && dpkg -x ./*.deb .
}
export work
export -f apt unpack
if ! requirements/part.sh "downloading promtool (20 MB) with apt into .venv/bin" bash -c unpack; then
    echo "promtool.sh: can't get promtool with apt-get. Put promtool on PATH (it comes with" \
        "Prometheus, https://prometheus.io/download) and run this again." >&2
    exit 1
fi
install "$work/usr/bin/promtool" "$target"
