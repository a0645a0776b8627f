#!/usr/bin/env bash
# browser.sh — what the browser tests need beside their packages: Chromium, linked into .venv/bin, and
# axe-core, which checks accessibility, into .venv/share; no root needed.
#
# Chromium is the system's own. axe-core is one file of its package on npm, which checks its hash.
set -euo pipefail
cd "$(dirname "$0")/.."
chromium=$PWD/.venv/bin/chromium
axe=$PWD/.venv/share/axe.min.js
release=axe-core@4.14.1

fail() {
    echo "browser.sh: $*, then run this again" >&2
    exit 1
}

if [ ! -x "$chromium" ]; then
    found=$(type -P chromium chromium-browser google-chrome | head -1) || true
    [ -n "$found" ] || fail "no Chromium on PATH: install it (Debian, Ubuntu: apt-get install chromium)"
    ln -sf "$found" "$chromium"
fi
if [ ! -e "$axe" ]; then
    type -P npm >/dev/null || fail "no npm on PATH: install it (Debian, Ubuntu: apt-get install npm)"
    printf '==> bringing %s (3 MB) from npm into .venv/share\n' $release
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    (cd "$work" && npm pack --silent $release >/dev/null && tar -xzf axe-core-*.tgz) ||
        fail "npm can't bring $release: see its message above"
    install -D -m 644 "$work/package/axe.min.js" "$axe"
fi
