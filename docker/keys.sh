#!/bin/sh
# keys.sh [FOLDER] — create the keys that docker-compose.yml needs, once, with the image frontpage:cpu.
#
# Writes to FOLDER (default: docker/secrets) three keys, for Prometheus, a client and an administrator;
# what the service must know of them; the password of Grafana's user admin; and PostgreSQL's password,
# with its URL, and the key of the readers' hashes. Only you can enter the folder. The files in it are readable by every user inside a container that is given one.
set -eu
folder=${1:-$(dirname "$0")/secrets}
if [ -e "$folder/frontpage_api_keys" ]; then
    echo "keys.sh: $folder already holds keys" >&2
    exit 1
fi
mkdir -p "$folder"
chmod 700 "$folder"
umask 022
made=$(docker run --rm -i --network none --entrypoint python "${IMAGE:-frontpage:cpu}" - <<'PYTHON'
import secrets

from app.security.keys import new_key

made = {
    "frontpage_key": new_key("prometheus", "predict"),
    "client_key": new_key("client", "predict"),
    "admin_key": new_key("admin", "admin"),
}
for file, (secret, _) in made.items():
    print(file, secret)
print("grafana_password", secrets.token_urlsafe(16))
password = secrets.token_urlsafe(16)
print("postgres_password", password)
print("frontpage_store", f"postgresql://frontpage:{password}@postgres/frontpage")
print("frontpage_reader_key", secrets.token_hex(32))
entries = (entry.model_dump_json(exclude_none=True) for _, entry in made.values())
print("frontpage_api_keys", f"[{','.join(entries)}]")
PYTHON
)
echo "$made" | while read -r file content; do
    printf '%s\n' "$content" >"$folder/$file"
done
echo "keys are in $folder"
