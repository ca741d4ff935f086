"""Kafka in: a topic is landed as files whose names carry topic, partition and offset range (docs/kafka.md)."""
