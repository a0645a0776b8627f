#!/usr/bin/env bash
# postgres.sh — provide the PostgreSQL server that the store's tests start.
#
# It is Debian's package: installed where we may, else asked for.
set -euo pipefail

if compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || type -P postgres >/dev/null; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && type -P apt-get >/dev/null; then
    echo "==> installing PostgreSQL for the tests"
    # No cluster of its own: the tests start a server in a folder of theirs.
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends postgresql
else
    echo "postgres.sh: no PostgreSQL server: install it (Debian, Ubuntu: sudo apt-get install postgresql), then run this again" >&2
    exit 1
fi
