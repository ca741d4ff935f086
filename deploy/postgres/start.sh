#!/usr/bin/env bash
# A PostgreSQL server for tests at localhost:PORT, its data in FOLDER, as long as this script runs (Debian's package).
#   deploy/postgres/start.sh PORT FOLDER     role etl, password as in the file FOLDER/password
# A folder that has data is started again as it is. Nothing is synced to the disk: it is thrown away. Started by root it
# runs as the user postgres.
set -euo pipefail
port=$1 folder=$2
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
mkdir -p "$folder"
# What is made is made beside its name first: a kill in the middle leaves nothing that a later start would take for whole.
if [ ! -e "$folder/password" ]; then
  head -c 18 /dev/urandom | base64 | tr '+/' 'ab' >"$folder/password.new"
  mv "$folder/password.new" "$folder/password"
fi
as=()
if [ "$(id -u)" -eq 0 ]; then
  chown -R postgres "$folder"
  as=(setpriv --reuid=postgres --regid=postgres --init-groups)
fi
cd "$folder"
if [ ! -e "$folder/data" ]; then
  rm -rf "$folder/data.new"
  "${as[@]}" "$bin/initdb" -D "$folder/data.new" -U etl -A scram-sha-256 --pwfile="$folder/password" --no-sync -E UTF8 \
    --locale=C >/dev/null
  mv "$folder/data.new" "$folder/data"
fi
exec "${as[@]}" "$bin/postgres" -D "$folder/data" -p "$port" -k "$folder" -c listen_addresses=127.0.0.1 -c fsync=off
