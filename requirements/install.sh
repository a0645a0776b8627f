#!/usr/bin/env bash
# install.sh SET... — install the packages of the lock files requirements/SET.txt into .venv.
#
# Run by make. A set that is already installed costs nothing. After an interrupted run, the next one
# starts over, because a half-written package looks complete to pip; pip's cache makes that quick.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv
python=${PYTHON:-python3}
installed=

say() { printf '==> %s\n' "$*"; }

if [ -e $venv ] && { [ -e $venv/.installing ] || ! $venv/bin/python -m pip --version >/dev/null 2>&1; }; then
    say "an earlier set-up was interrupted: starting over"
    rm -rf $venv
fi
for set in "$@"; do
    lock=requirements/$set.txt
    if cmp -s "$lock" "$venv/.has-$set"; then continue; fi
    if [ ! -e $venv ]; then
        say "creating a virtual environment in $venv"
        $python -c 'import sys; sys.exit("Python 3.11 or newer is needed: set PYTHON=/path/to/python3.11" if sys.version_info < (3, 11) else 0)'
        $python -m venv $venv
    fi
    touch $venv/.installing
    say "installing the $(grep -c == "$lock") packages of $lock"
    # pip would compile one file after the other; instead, all are compiled below on all cores.
    pip="$venv/bin/python -m pip install --no-deps --no-compile --disable-pip-version-check"
    torch=$(grep '^torch==.*+cpu' "$lock" || true)
    if [ -n "$torch" ]; then
        # PyPI has no CPU builds of torch: take a local one if pip finds one, else PyTorch's index.
        $pip --quiet "$torch" 2>/dev/null || $pip "$torch" --index-url https://download.pytorch.org/whl/cpu
    fi
    $pip -r "$lock"
    installed=yes
    cp "$lock" "$venv/.has-$set"
    rm $venv/.installing
done
if [ -n "$installed" ]; then
    # Some files are templates or for another Python version: they fail to compile, which is fine.
    $venv/bin/python -W ignore -m compileall -qq -j 0 $venv/lib || true
fi
if [[ " $* " == *" dev "* ]]; then
    requirements/postgres.sh
    requirements/promtool.sh
    requirements/browser.sh
fi
