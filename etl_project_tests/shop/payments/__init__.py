"""The sample pipeline of a Kafka topic: the shop's payments, set against its orders."""
