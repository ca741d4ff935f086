#!/usr/bin/env bash
# A real S3 server for trials, tests and CI at localhost:PORT, its objects in FOLDER, as long as this script runs:
# Versity's gateway over a local folder, which Go builds once (two minutes).
#
#   deploy/s3/start.sh PORT FOLDER [BUCKET]     bucket `lake` by default
#
# FOLDER/credentials, which only its owner may read, says how to reach it, as `NAME=value` lines for a shell:
#   set -a; . FOLDER/credentials; set +a
# Not for production: one key for everything, no TLS.
set -euo pipefail
port=$1
folder=$(realpath -m "$2")
bucket=${3:-lake}
here=$(cd "$(dirname "$0")" && pwd)
version=v1.8.0
gateway=${ETL_TEST_S3_GATEWAY:-$here/target/versitygw-$version}

if [ ! -x "$gateway" ]; then
  mkdir -p "$here/target"
  exec 9>"$here/target/.lock"
  flock 9  # Several may start at once; one of them builds.
  if [ ! -x "$gateway" ]; then
    echo "building the gateway (Go, once) ..." >&2
    PATH=$PATH:/usr/local/go/bin GOBIN=$here/target/bin go install "github.com/versity/versitygw/cmd/versitygw@$version" >&2
    mv "$here/target/bin/versitygw" "$gateway"
  fi
  exec 9>&-
fi

mkdir -p "$folder/objects/$bucket" "$folder/meta"
secret=$folder/credentials
if [ ! -e "$secret" ]; then
  (
    umask 177
    cat >"$secret" <<CREDENTIALS
AWS_ACCESS_KEY_ID=etl$(head -c 9 /dev/urandom | od -An -tx1 | tr -d ' \n')
AWS_SECRET_ACCESS_KEY=$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n')
AWS_ENDPOINT_URL=http://localhost:$port
AWS_REGION=us-east-1
ETL_TEST_S3=s3://$bucket
CREDENTIALS
  )
fi
# By its environment: arguments are seen in process lists.
. "$secret"
export ROOT_ACCESS_KEY=$AWS_ACCESS_KEY_ID ROOT_SECRET_KEY=$AWS_SECRET_ACCESS_KEY
exec "$gateway" --port "127.0.0.1:$port" --region us-east-1 --quiet posix --sidecar "$folder/meta" "$folder/objects"
