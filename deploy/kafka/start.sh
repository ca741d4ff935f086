#!/usr/bin/env bash
# A real Apache Kafka broker for trials, tests and CI: one node, KRaft, nothing to install but Java 17 and Maven.
#
#   deploy/kafka/start.sh [PORT [FOLDER [kafka.Kafka options, such as --override NAME=VALUE ...]]]
#
# Runs in the foreground until SIGINT or SIGTERM; FOLDER keeps the topics, so a later start goes on with them.
# Not for production: one node, no replicas, no authentication.
set -euo pipefail
port=${1:-9092}
folder=$(realpath -m "${2:-data/kafka-broker}")
shift $(($# < 2 ? $# : 2))
here=$(cd "$(dirname "$0")" && pwd)
libs=$here/target/libs

mkdir -p "$here/target"
exec 9>"$here/target/.lock"
flock 9  # Several may start at once; one of them fetches.
if [ "$here/pom.xml" -nt "$libs/.complete" ]; then
  echo "fetching the broker (Maven, once) ..." >&2
  rm -rf "$libs"
  mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$libs"
  touch "$libs/.complete"
fi
exec 9>&-

mkdir -p "$folder"
cat >"$folder/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://localhost:$port,CONTROLLER://localhost:$((port + 1))
advertised.listeners=PLAINTEXT://localhost:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT
controller.quorum.bootstrap.servers=localhost:$((port + 1))
log.dirs=$folder/logs
num.partitions=3
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
# A broker that was killed is let in again soon.
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=1000
group.min.session.timeout.ms=1000
# Samples carry timestamps of long ago, which retention by time would remove at once.
log.retention.ms=-1
log.cleaner.backoff.ms=500
log.retention.check.interval.ms=1000
PROPERTIES

java=(java -Xms128m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1
  -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$libs/*")
if [ ! -e "$folder/logs/meta.properties" ]; then
  # An id as StorageTool random-uuid makes one, which would start Java a third time: 16 bytes in the letters of Base64.
  id=$(head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | tr -d '=')
  "${java[@]}" kafka.tools.StorageTool format --standalone -t "$id" -c "$folder/server.properties" >/dev/null
fi
exec "${java[@]}" kafka.Kafka "$folder/server.properties" "$@"
