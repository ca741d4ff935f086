"""Lag: what a group has committed, asked from outside the group. Needs the client library.

Belongs here: questions that join nothing and change nothing. Does not belong here: consuming (`landing`).
"""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from etl_project.failures import EtlError, Transient
from etl_project.kafka.broker import consumer, failure
from etl_project.kafka.settings import Broker
from etl_project.kafka.subscription import Subscription

_PATIENCE_SECONDS = 3.0


class NotAnswered(Transient):
    """The broker did not say. Nothing depends on it; retrying helps once the broker answers."""


def committed(subscription: Subscription, broker: Broker) -> dict[int, int]:
    """The group's position in every partition of the topic in which it has committed one.

    Raises NotAnswered (retrying helps) after a few seconds, or for whatever else the broker says.
    """
    topic = subscription.topic
    try:
        client = consumer(subscription, broker, lambda error: None)
        try:
            found = client.list_topics(topic, timeout=_PATIENCE_SECONDS).topics[topic]
            if found.error is not None:
                raise KafkaException(found.error)
            asked = [TopicPartition(topic, partition) for partition in found.partitions]
            answers = client.committed(asked, timeout=_PATIENCE_SECONDS)
        finally:
            client.close()
    except KafkaException as error:
        raise _not_answered(error.args[0], subscription, broker) from None
    except EtlError as error:
        raise NotAnswered(str(error)) from None
    return {one.partition: one.offset for one in answers if one.error is None and one.offset >= 0}


def _not_answered(error: KafkaError, subscription: Subscription, broker: Broker) -> NotAnswered:
    return NotAnswered(str(failure(error, f"asking for the offsets of group {subscription.group}", broker)))
