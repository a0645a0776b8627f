#!/usr/bin/env bash
# browser.sh — put Chromium, which the browser tests drive, into .venv/bin.
#
# The system's own is linked. Where there is none, Playwright brings its own; its libraries are the
# system's, and Playwright installs them where we may.
set -euo pipefail
cd "$(dirname "$0")/.."
chromium=$PWD/.venv/bin/chromium

if [ -x "$chromium" ]; then exit 0; fi
found=$(type -P chromium chromium-browser google-chrome | head -1) || true
if [ -z "$found" ]; then
    export PLAYWRIGHT_BROWSERS_PATH=$PWD/.venv/share/playwright
    if [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; then
        requirements/part.sh "installing the libraries of Chromium with apt" .venv/bin/playwright install-deps chromium
    fi
    requirements/part.sh "downloading Playwright's Chromium (170 MB) into .venv/share" \
        .venv/bin/playwright install --no-shell chromium
    found=$(echo "$PLAYWRIGHT_BROWSERS_PATH"/chromium-*/chrome-linux*/chrome)
fi
ln -sf "$found" "$chromium"
