#!/usr/bin/env bash
# system.sh [tests] — provide what is needed from the system, before anything is downloaded.
#
# Every set-up needs Python's venv and the libraries that LightGBM and vLLM load; the tests also need
# Chromium, a PostgreSQL server, curl, pgrep, apt-get and the library that Playwright loads. What is missing is installed where we may, as root or by a sudo that asks for no password;
# else one message names all of it.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
missing=()

libraries=$(PATH=$PATH:/sbin ldconfig -p)

has() { type -P "$1" >/dev/null; }
has_library() { [[ $libraries == *"$1"* ]]; }

# Root needs no sudo. Prints nothing and fails where we may not install.
how_to_install() {
    has apt-get || return
    if [ "$(id -u)" = 0 ]; then
        echo env
    elif has sudo && sudo -n true 2>/dev/null; then
        echo sudo
    else
        return 1
    fi
}

# Those of Chromium's that no other program is likely to have brought.
has_its_libraries() { has_library libnss3.so && has_library libgbm.so && has_library libasound.so; }

# Where there is no Chromium, browser.sh brings Playwright's own, whose libraries are the system's.
# Ubuntu's package is a snap, so there Playwright installs its libraries itself, if we may install.
find_chromium() {
    if [ -x .venv/bin/chromium ] || has chromium || has chromium-browser || has google-chrome; then return; fi
    if grep -qx 'ID=ubuntu' /etc/os-release 2>/dev/null; then
        [ -n "$install" ] || has_its_libraries || missing+=(chromium-browser)
    elif [ -n "$install" ] || ! has_its_libraries; then
        missing+=(chromium)
    fi
}

$python -c 'import sys; sys.exit("Python 3.11 or newer is needed: set PYTHON=/path/to/python3.11" if sys.version_info < (3, 11) else 0)'
install=$(how_to_install) || install=
# Debian's python3 comes without what makes an environment.
[ -e .venv ] || $python -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
has_library libgomp.so.1 || missing+=(libgomp1)
has_library libnuma.so.1 || missing+=(libnuma1)
if [ "${1-}" = tests ]; then
    find_chromium
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || has postgres || missing+=(postgresql)
    has_library libatomic.so.1 || missing+=(libatomic1)
    has curl || missing+=(curl)
    has pgrep || missing+=(procps)
    [ -x .venv/bin/promtool ] || has promtool || has apt-get || missing+=(promtool)
fi
[ ${#missing[@]} != 0 ] || exit 0
if [ -z "$install" ]; then
    echo "system.sh: the system lacks ${missing[*]}: install them, then run this again" >&2
    echo "    Debian, Ubuntu: sudo apt-get install ${missing[*]}" >&2
    exit 1
fi
if [[ " ${missing[*]} " == *" postgresql "* && ! -e /etc/postgresql-common/createcluster.conf ]]; then
    # No cluster of its own: the tests start a server in a folder of theirs.
    $install mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' | $install tee /etc/postgresql-common/createcluster.conf >/dev/null
fi
requirements/part.sh "asking apt for its lists of packages" $install apt-get update
requirements/part.sh "installing ${missing[*]} with apt" \
    $install env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
