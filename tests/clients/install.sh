#!/usr/bin/env bash
# install.sh — install the clients' packages into .venv/share/clients, beside the project's own environment.
#
# From PyPI by requirements.txt and from npm by package.json. What is installed already costs nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/clients
target=.venv/share/clients

export PATH=$PWD/.venv/bin:$PATH # with npm
mkdir -p $target
if ! cmp -s $here/requirements.txt $target/venv/.has; then
    echo "==> installing the Python clients into $target/venv"
    rm -rf $target/venv
    "${PYTHON:-python3}" -m venv $target/venv
    $target/venv/bin/python -m pip install --quiet --disable-pip-version-check -r $here/requirements.txt
    cp $here/requirements.txt $target/venv/.has
fi
if ! cmp -s $here/package.json $target/node_modules/.has; then
    echo "==> installing the Node client into $target/node_modules"
    rm -rf $target/node_modules
    cp $here/package.json $target/
    npm install --prefix $target --silent --no-audit --no-fund --no-package-lock
    cp $here/package.json $target/node_modules/.has
fi
