"""aiokafka's producer with two habits changed, so that brokers that are away cost time and nothing else."""

import math
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaProducer


class PatientProducer(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka publishes no types here
    """Never gives a batch up because its partition has no leader, and tells of every batch that is sent again.

    aiokafka repeats what a broker did not take, in order and (idempotent) without writing it twice. But a batch whose
    partition is without a leader for the request time-out it drops, with the sequence numbers that were meant for
    it, and the next one is then refused. The request time-out cannot be raised instead: it is also the time after which
    a connection that says nothing is closed. Whoever sends has a deadline of his own.

    Args:
        retried: called for every batch that is to be sent again.
        arguments: of the producer.
    """

    def __init__(self, retried: Callable[[], None], **arguments: Any) -> None:
        super().__init__(**arguments)
        accumulator = self._message_accumulator
        if not hasattr(accumulator, "_batch_ttl") or not hasattr(accumulator, "reenqueue"):
            message = "this aiokafka keeps its batches elsewhere; stream/patient_producer.py must follow"
            raise AttributeError(message)
        accumulator._batch_ttl = math.inf
        again = accumulator.reenqueue

        def reenqueue(batch: Any) -> None:
            retried()
            again(batch)

        accumulator.reenqueue = reenqueue
