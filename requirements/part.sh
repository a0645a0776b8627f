#!/usr/bin/env bash
# part.sh WHAT COMMAND... — run one part of the set-up quietly.
#
# It says when the part begins, every eight seconds that it is still at work, and how long it took.
# What the command prints is shown only if it fails.
set -euo pipefail
what=$1
shift
log=$(mktemp)
exec {never}<> <(:) # nothing is ever written there: reading it is a sleep that leaves no process
remind() {
    while kill -0 $$ 2>/dev/null; do
        read -r -t 8 -u $never || printf '    still %s (%d s)\n' "$what" $SECONDS
    done
}
printf '==> %s\n' "$what"
remind &
trap 'kill %1 2>/dev/null; rm -f "$log"' EXIT
code=0
"$@" >"$log" 2>&1 </dev/null || code=$?
if [ $code = 0 ]; then
    printf '    done in %d s\n' $SECONDS
else
    cat "$log" >&2
    printf '==> failed after %d s: %s\n' $SECONDS "$what" >&2
fi
exit $code
