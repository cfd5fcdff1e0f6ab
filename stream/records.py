"""What moves between the broker and an agent: a record that came, a record to send."""

from dataclasses import dataclass

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Incoming:
    """One consumed record. `append_time` is the broker's, in seconds since the epoch (LogAppendTime)."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    append_time: float


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record to send. `topic` is a word of `schemas.topics`; without a partition the key decides.

    `after_durable`: not sent before everything that the same partition caused earlier is durable. Topics
    share no order, so where a reader of this record counts on an earlier one being there, it must wait.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: Headers = ()
    after_durable: bool = False
