#!/usr/bin/env bash
# browser.sh — provide what the browser tests need besides their packages. Needs no root.
#
# The system's own Chromium is linked into .venv/bin. axe-core, which checks accessibility, is one
# file of its npm package, whose hash npm checks; it goes to .venv/share.
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
    [ -n "$found" ] || fail "Chromium is not on PATH: install it (Debian, Ubuntu: apt-get install chromium)"
    ln -sf "$found" "$chromium"
fi
if [ ! -e "$axe" ]; then
    type -P npm >/dev/null || fail "npm is not on PATH: install it (Debian, Ubuntu: apt-get install npm)"
    printf '==> downloading %s (3 MB) from npm into .venv/share\n' $release
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    (cd "$work" && npm pack --silent $release >/dev/null && tar -xzf axe-core-*.tgz) ||
        fail "npm can't download $release: see its message above"
    install -D -m 644 "$work/package/axe.min.js" "$axe"
fi
