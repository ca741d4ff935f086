"""Broker: what its errors mean for a person, and the consumer's configuration. Needs the client library.

Belongs here: the one place that knows librdkafka's names of settings and errors. Does not belong here: what is done
with messages (`landing`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException

from etl_project.failures import EtlError, Permanent, Transient
from etl_project.kafka.settings import BOOTSTRAP, CONFIG, Broker
from etl_project.kafka.subscription import Subscription

LOGGER = "etl_project.kafka"
"""Name of the logger that gets what librdkafka has to say."""

_LEAST_FETCHED_BYTES, _MOST_FETCHED_BYTES = (
    1_000_000,
    50 * 2**20,
)  # librdkafka's own smallest message limit, and default.
_LARGEST_QUEUE_KIB = 2**21 - 1


class Unreachable(Transient):
    """The broker cannot be reached, or cannot answer now. What was not committed is consumed again; retrying helps."""


class BrokerRefused(Permanent):
    """The broker refuses what is asked for. Nothing is lost; retrying does not help before it is mended."""


def consumer(subscription: Subscription, broker: Broker, on_error: Callable[[KafkaError], None]) -> Consumer:
    """A consumer that commits nothing by itself, reads committed messages only, and never skips offsets silently.

    Its memory is bounded by the subscription's batch settings. Raises BrokerRefused for an option that is none.
    """
    settings: dict[str, Any] = {
        "client.id": f"etl-{subscription.source.name}",
        "fetch.max.bytes": min(_MOST_FETCHED_BYTES, max(_LEAST_FETCHED_BYTES, subscription.batch_bytes)),
        # A full queue is looked at again soon: a pause of the default second would leave a fast reader waiting.
        "fetch.queue.backoff.ms": 10,
        "queued.max.messages.kbytes": min(_LARGEST_QUEUE_KIB, max(1, subscription.batch_bytes // 1024)),
        **broker.options,
        "bootstrap.servers": broker.bootstrap,
        "group.id": subscription.group,
        "auto.offset.reset": "error",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        # A rebalance takes everything away before it gives anything: what is revoked can be dropped as a whole.
        "partition.assignment.strategy": "range",
        "error_cb": on_error,
    }
    logger = logging.getLogger(LOGGER)
    logger.addHandler(logging.NullHandler())
    try:
        return Consumer(settings, logger=logger)
    except KafkaException as error:
        raise BrokerRefused(f"{CONFIG}: {error.args[0].str()}; correct the option, or remove it.") from None


def failure(error: KafkaError, what: str, broker: Broker) -> EtlError:
    """The error as one line that says what was attempted, what the broker said, and what to do."""
    advice = _PERMANENT.get(error.code(), _FATAL if is_fatal(error) else None)
    if advice is not None:
        return BrokerRefused(f"{what} at {broker.bootstrap}: {error.str()}; {advice}.")
    return Unreachable(
        f"{what} at {broker.bootstrap}: {error.str()}. Is the broker up, and is {BOOTSTRAP} right? Nothing is lost; "
        "retrying helps."
    )


def is_permanent(error: KafkaError) -> bool:
    """Whether retrying cannot help."""
    return error.code() in _PERMANENT or is_fatal(error)


def is_fatal(error: KafkaError) -> bool:
    """Whether the client has given up for good: nothing comes from this consumer any more."""
    return error.fatal() or error.code() == KafkaError._FATAL


def is_rebalance(error: KafkaError) -> bool:
    """Whether the group has moved on without this member: its partitions are, or soon will be, somebody else's."""
    return error.code() in _REBALANCE


_FATAL = (
    "the client has given up (is another member using the same group.instance.id?); nothing is lost: mend that, then "
    "land again"
)
_CREDENTIALS = f"check user, password and mechanism in the file that {CONFIG} names"
_TOPIC = "create the topic, or correct `topic` in defs.yaml"
_RIGHTS = "allow this user to read the topic and to use the consumer group"
_PERMANENT: dict[int, str] = {
    KafkaError._AUTHENTICATION: _CREDENTIALS,
    KafkaError.SASL_AUTHENTICATION_FAILED: _CREDENTIALS,
    KafkaError.UNSUPPORTED_SASL_MECHANISM: _CREDENTIALS,
    KafkaError._SSL: f"check the certificates and security.protocol in the file that {CONFIG} names",
    KafkaError._UNKNOWN_TOPIC: _TOPIC,
    KafkaError.UNKNOWN_TOPIC_OR_PART: _TOPIC,
    KafkaError.TOPIC_EXCEPTION: _TOPIC,
    KafkaError.TOPIC_AUTHORIZATION_FAILED: _RIGHTS,
    KafkaError.GROUP_AUTHORIZATION_FAILED: _RIGHTS,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: _RIGHTS,
    KafkaError.INVALID_GROUP_ID: "give the group another name in defs.yaml",
}
_REBALANCE = (
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError._ASSIGNMENT_LOST,
)
