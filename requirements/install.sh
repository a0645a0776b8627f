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
part=requirements/part.sh

requirements/system.sh
if [ -e $venv ] && { [ -e $venv/.installing ] || ! $venv/bin/python -m pip --version >/dev/null 2>&1; }; then
    $part "removing $venv, whose set-up was interrupted" rm -rf $venv
fi
for set in "$@"; do
    lock=requirements/$set.txt
    if cmp -s "$lock" "$venv/.has-$set"; then continue; fi
    [ -e $venv ] || $part "creating a virtual environment in $venv" $python -m venv $venv
    touch $venv/.installing
    # pip would compile one file after the other; instead, all are compiled below on all cores.
    pip="$venv/bin/python -m pip install --quiet --no-deps --no-compile --disable-pip-version-check --root-user-action=ignore"
    torch=$(grep '^torch==.*+cpu' "$lock" || true)
    if [ -n "$torch" ]; then
        # PyPI has no CPU builds of torch: take a local one if pip finds one, else PyTorch's index.
        $part "installing PyTorch's build for CPUs" bash -c \
            "$pip $torch 2>/dev/null || $pip $torch --index-url https://download.pytorch.org/whl/cpu"
    fi
    $part "installing the $(grep -c == "$lock") packages of $lock" $pip -r "$lock"
    installed=yes
    cp "$lock" "$venv/.has-$set"
    rm $venv/.installing
done
if [ -n "$installed" ]; then
    # Some files are templates or for another Python version: they fail to compile, which is fine.
    $part "compiling the packages to bytecode" bash -c \
        "$venv/bin/python -W ignore -m compileall -qq -j 0 $venv/lib || true"
fi
