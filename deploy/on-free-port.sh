#!/usr/bin/env bash
# The server of a start script on a port that nobody else has, as long as this script runs.
#
#   deploy/on-free-port.sh SCRIPT FOLDER     SCRIPT is called with PORT and FOLDER/server
#
# FOLDER/port says which port it is, once the server itself listens there; FOLDER/log is what it has to say. A port that
# somebody else has is found out by the server, which then ends: only a try holds what it finds. For trials and tests:
# what was in FOLDER/server is lost. Ends with the server's exit code where it ends for another reason.
set -euo pipefail
script=$1 folder=$2 server=""

# Whether the process holds the port: that somebody answers there says nothing about who.
listens() {
  local inode
  for inode in $(awk -v port="$(printf ':%04X' "$2")" '$4 == "0A" && $2 ~ port "$" { print $10 }' /proc/net/tcp /proc/net/tcp6); do
    find "/proc/$1/fd" -lname "socket:\[$inode\]" 2>/dev/null | grep -q . && return
  done
  return 1
}

# PostgreSQL ends at once with SIGINT, Java and Go with SIGTERM; each leaves the other signal alone. A broker may take for
# ever over it, and nothing of any of them is kept.
stop() {
  kill -INT "$server" 2>/dev/null || true
  kill "$server" 2>/dev/null || true
  for _ in $(seq 150); do
    kill -0 "$server" 2>/dev/null || exit 143
    sleep 0.1
  done
  kill -KILL "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true  # On a busy machine it lives on for a moment.
  exit 143
}
trap stop TERM
mkdir -p "$folder"
rm -f "$folder/port"
for _ in $(seq 20); do
  rm -rf "$folder/server"
  mkdir -m 711 "$folder/server"
  port=$((20000 + RANDOM % 6000 * 2))  # Below those that the system gives away; the broker takes the next one as well.
  "$script" "$port" "$folder/server" >"$folder/log" 2>&1 &
  server=$!
  while kill -0 "$server" 2>/dev/null && ! listens "$server" "$port"; do
    sleep 0.1
  done
  if kill -0 "$server" 2>/dev/null; then
    echo "$port" >"$folder/.port"
    mv "$folder/.port" "$folder/port"
  fi
  # Not by `wait` alone: a signal that comes just before it is not heard until the server ends.
  while kill -0 "$server" 2>/dev/null; do
    sleep 0.1
  done
  status=0
  wait "$server" || status=$?
  [ -e "$folder/port" ] || grep -qi "address already in use" "$folder/log" || exit "$status"
  [ ! -e "$folder/port" ] || exit "$status"
done
echo "twenty ports, and somebody else has each of them" >>"$folder/log"
exit 1
