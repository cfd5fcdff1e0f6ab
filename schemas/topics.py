"""The topics: their words, keys, defaults and settings, defined once.

A topic's full name is ``<prefix>.<word>``; the prefix is a setting, the words are fixed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

DEFAULT_PREFIX = "sluicegate"

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


@dataclass(frozen=True)
class TopicSpec:
    """One topic: what is in it and how it is created.

    ``partitions`` is a default that settings may change; a count of 1 with ``fixed`` set is part of
    the design (one total order) and is never changed.
    """

    word: str
    key: str
    value: str
    partitions: int
    fixed: bool = False
    config: dict[str, str] = field(default_factory=dict)

    def name(self, prefix: str = DEFAULT_PREFIX) -> str:
        """Return the topic's name on the broker."""
        return f"{prefix}.{self.word}"


def _kept(milliseconds: int, **more: str) -> dict[str, str]:
    # LogAppendTime: silence and clock skew are judged by the broker's clock, never by a sender's.
    return {"message.timestamp.type": "LogAppendTime", "retention.ms": str(milliseconds), **more}


EVENTS = TopicSpec(
    "events.v1", "cluster/node", "one node-second: header and one Arrow batch per kind", 4,
    config=_kept(_DAY_MS, **{"max.message.bytes": str(4 << 20)}),
)  # fmt: skip
INVENTORY = TopicSpec(
    "inventory.v1", "object uid", "JSON: address to pod, workload, service, node, labels; with validity", 1,
    # History is needed to name an address as it was; compaction would lose that.
    fixed=True, config=_kept(8 * _DAY_MS),
)  # fmt: skip
ROLLUPS = TopicSpec(
    "rollups.v1", "explicit partition: hash(entity) mod partitions",
    "Arrow batches of partial aggregates; also the sender's watermark", 2,
    config=_kept(_DAY_MS, **{"max.message.bytes": str(4 << 20)}),
)  # fmt: skip
EDGES = TopicSpec(
    "edges.v1", "workload", "JSON: hourly workload to peer:port with counts and bytes", 1,
    # One partition: every responder reads all of it.
    fixed=True, config=_kept(8 * _DAY_MS),
)  # fmt: skip
WATCH = TopicSpec(
    "watch.v1", "contained subject", "JSON: attempts, answered, last packet per active containment", 1,
    config=_kept(_DAY_MS),
)  # fmt: skip
ALERTS = TopicSpec(
    "alerts.v1", "subject", "JSON alert revisions and senders' watermarks", 1,
    # One partition: alerts are rare, and their readers and the incident agent want one order.
    fixed=True, config=_kept(30 * _DAY_MS),
)  # fmt: skip
INCIDENTS = TopicSpec("incidents.v1", "incident", "JSON incident revisions", 1, True, _kept(30 * _DAY_MS))
RESPONSES = TopicSpec("responses.v1", "target", "JSON decisions with deadline and mode", 1, True, _kept(30 * _DAY_MS))
COMMANDS = TopicSpec("commands.v1", "target", "JSON operators' commands", 1, True, _kept(30 * _DAY_MS))
ACTIONS = TopicSpec("actions.v1", "target", "JSON audit of every step taken or refused", 1, True, _kept(365 * _DAY_MS))
NODE_COMMANDS = TopicSpec(
    "nodecommands.v1", "cluster/node", "JSON: what agents of nodes are to drop or slow down, signed", 1,
    # Read whole by every agent that starts: kept longer than anything may stay in a kernel's tables.
    fixed=True, config=_kept(8 * _DAY_MS),
)  # fmt: skip
NODE_REPORTS = TopicSpec(
    "nodereports.v1", "cluster/node", "JSON: what is in the kernel's tables of a node, and what that dropped", 1,
    fixed=True, config=_kept(_DAY_MS),
)  # fmt: skip
DEADLETTER = TopicSpec(
    "deadletter.v1", "original key", "original bytes; headers topic, partition, offset, reason", 1,
    config=_kept(7 * _DAY_MS, **{"max.message.bytes": str(4 << 20)}),
)  # fmt: skip
STATE = TopicSpec(
    "state.v1", "agent/partition/epoch/next offset/chunk",
    "pages of state in chunks of at most 512 KiB, then a manifest", 4,
    config={"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"},
)  # fmt: skip

TOPICS: tuple[TopicSpec, ...] = (
    EVENTS, INVENTORY, ROLLUPS, EDGES, WATCH, ALERTS, INCIDENTS, RESPONSES, COMMANDS, ACTIONS, DEADLETTER, STATE,
    NODE_COMMANDS, NODE_REPORTS,
)  # fmt: skip

# Kafka record header that says how a value is encoded.
CONTENT_TYPE_HEADER = "content-type"
EVENTS_ARROW = b"application/vnd.sluicegate.events+arrow"
ROLLUPS_ARROW = b"application/vnd.sluicegate.rollups+arrow"
JSON = b"application/json"
