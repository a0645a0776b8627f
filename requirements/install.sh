#!/usr/bin/env bash
# install.sh SET... — bring the lock files requirements/SET.txt into .venv, once.
#
# Run by make. A set that is there already costs nothing; a run that was interrupted starts over
# (pip's own cache makes that quick), because a half-written package looks whole to pip.
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
        say "making a virtual environment in $venv"
        $python -c 'import sys; sys.exit("Python 3.11 or newer is needed: set PYTHON=/path/to/python3.11" if sys.version_info < (3, 11) else 0)'
        $python -m venv $venv
    fi
    touch $venv/.installing
    say "installing the $(grep -c == "$lock") packages of $lock"
    # What pip would compile one file after the other is compiled at the end on all cores.
    pip="$venv/bin/python -m pip install --no-deps --no-compile --disable-pip-version-check"
    torch=$(grep '^torch==.*+cpu' "$lock" || true)
    if [ -n "$torch" ]; then
        # CPU builds of torch are not on PyPI: a local one if pip knows one, else PyTorch's index.
        $pip --quiet "$torch" 2>/dev/null || $pip "$torch" --index-url https://download.pytorch.org/whl/cpu
    fi
    $pip -r "$lock"
    installed=yes
    cp "$lock" "$venv/.has-$set"
    rm $venv/.installing
done
if [ -n "$installed" ]; then
    # Some files are templates or of another Python: they fail, and are left as they are.
    $venv/bin/python -W ignore -m compileall -qq -j 0 $venv/lib || true
fi
if [[ " $* " == *" dev "* ]]; then
    requirements/promtool.sh
    requirements/browser.sh
fi
