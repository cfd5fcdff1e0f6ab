"""Topics are made on purpose and checked before use: a worker never runs on topics that differ.

A different partition count moves keys to other partitions, and CreateTime would let a sender choose the
time by which silence is judged; both are refused with the remedy instead of giving wrong alerts later.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code

from schemas.topics import EVENTS, ROLLUPS, STATE, TOPICS, TopicSpec
from stream.connection import ConnectionProblem, client_arguments, unreachable
from stream.settings import KafkaSettings, TopicSettings

_ALREADY_EXISTS = 36
_VISIBLE_POLLS = 200
_VISIBLE_POLL_SECONDS = 0.1
# A consumer must be able to tell a wrong setting from a broker's default, so these are always stated.
_COMMON = {"compression.type": "lz4"}
# Tombstones take away replaced snapshots; without small segments the cleaner would never reach them.
_STATE = {"min.cleanable.dirty.ratio": "0.1", "segment.ms": "600000", "delete.retention.ms": "3600000"}
# What a worker relies on; other settings (retention above all) are the operator's to change.
_RELIED_ON = ("message.timestamp.type", "cleanup.policy", "max.message.bytes")


class TopicMismatch(Exception):
    """Topics on the broker are missing or differ; the message is one line per topic, with the remedy."""


@dataclass(frozen=True)
class WantedTopic:
    """One topic as it must be: full name, partitions, settings."""

    name: str
    partitions: int
    config: dict[str, str]


def wanted_topics(prefix: str, settings: TopicSettings) -> list[WantedTopic]:
    """All topics as the settings want them, in the order of the topics table."""
    return [WantedTopic(spec.name(prefix), _partitions(spec, settings), _config(spec)) for spec in TOPICS]


async def create_topics(kafka: KafkaSettings, topics: TopicSettings) -> list[str]:
    """Create what is missing, then check everything; returns the names created.

    Raises:
        ConnectionProblem: the broker does not answer, or refuses.
        TopicMismatch: a topic that existed differs.
    """
    wanted = wanted_topics(kafka.prefix, topics)
    admin = await _connect(kafka)
    try:
        new = [NewTopic(w.name, w.partitions, topics.replication, topic_configs=w.config) for w in wanted]
        response = await admin.create_topics(new)
        created = []
        for name, code, text in response.topic_errors:
            if code == 0:
                created.append(name)
            elif code != _ALREADY_EXISTS:
                message = f"topic {name} cannot be created: {text or for_code(code).__name__}"
                raise ConnectionProblem(message)
        await _check(admin, wanted, frozenset(created))
    except KafkaError as error:
        raise unreachable(kafka, error) from None
    finally:
        await admin.close()
    return created


async def check_topics(kafka: KafkaSettings, topics: TopicSettings) -> None:
    """Compare the broker's topics with the wanted ones.

    Raises:
        ConnectionProblem: the broker does not answer.
        TopicMismatch: a topic is missing or differs in what a worker relies on.
    """
    admin = await _connect(kafka)
    try:
        await _check(admin, wanted_topics(kafka.prefix, topics))
    except KafkaError as error:
        raise unreachable(kafka, error) from None
    finally:
        await admin.close()


def mismatches(
    wanted: Iterable[WantedTopic], partitions: dict[str, int], configs: dict[str, dict[str, str]]
) -> list[str]:
    """One line per difference between what is wanted and what a broker has.

    Args:
        wanted: the topics as they must be.
        partitions: partition count of each existing topic.
        configs: settings of each existing topic.
    """
    lines = []
    for topic in wanted:
        found = partitions.get(topic.name)
        if found is None:
            lines.append(f"{topic.name} is missing: run `sluicegate topics create`")
            continue
        if found != topic.partitions:
            lines.append(
                f"{topic.name} has {found} partitions, settings say {topic.partitions}: set topics.* to {found}, or "
                "stop everything, delete the topic and create it again, and drop what was kept of it "
                "(`sluicegate state drop AGENT`)"
            )
        lines += [
            f"{topic.name} has {key}={configs[topic.name].get(key)}, must be {value}: "
            f"kafka-configs --alter --topic {topic.name} --add-config {key}={value}"
            for key, value in topic.config.items()
            if key in _RELIED_ON and not _suffices(key, configs[topic.name].get(key), value)
        ]
    return lines


def topics_markdown() -> str:
    """The text of `docs/topics.md`."""
    lines = [
        "# Topics",
        "",
        "A topic's name is `<prefix>.<word>`; the prefix is `kafka.prefix` (default `sluicegate`). `sluicegate topics",
        "create` makes what is missing, `sluicegate topics check` compares; a worker refuses to start on topics whose",
        "partition count, timestamp type, clean-up policy or message limit differ. Retention is yours to change.",
        "Made from `schemas/topics.py` and `stream/topics_admin.py`; do not edit here.",
        "",
        "| word | key | value | partitions | settings |",
        "|---|---|---|---|---|",
    ]
    wanted = wanted_topics("", TopicSettings())
    for spec, topic in zip(TOPICS, wanted, strict=True):
        count = f"{topic.partitions}, fixed" if spec.fixed else str(topic.partitions)
        config = "<br>".join(f"`{key}={value}`" for key, value in sorted(topic.config.items()))
        lines.append(f"| `{spec.word}` | {spec.key} | {spec.value} | {count} | {config} |")
    lines += [
        "",
        "All records carry the header `content-type` and, from workers, `emitted-at` (wall-clock time of sending, ns",
        "since the epoch; never a field, so that equal words stay equal bytes). Readers of alerts and incidents key by",
        "`id` and `revision`: after a worker was killed a revision may be there twice, the same to the byte.",
        "",
        "`deadletter.v1` holds the original bytes; its headers `topic`, `partition`, `offset` and `reason` say where",
        "they came from and why, `original-size` where a value above 4 MiB had to be cut.",
    ]
    return "\n".join(lines) + "\n"


def _suffices(key: str, found: str | None, value: str) -> bool:
    if key == "max.message.bytes":
        return found is not None and found.isdecimal() and int(found) >= int(value)
    return found == value


def _partitions(spec: TopicSpec, settings: TopicSettings) -> int:
    chosen = {
        EVENTS.word: settings.event_partitions,
        ROLLUPS.word: settings.rollup_partitions,
        STATE.word: settings.state_partitions,
    }
    return chosen.get(spec.word, spec.partitions)


def _config(spec: TopicSpec) -> dict[str, str]:
    return {**_COMMON, **(_STATE if spec.word == STATE.word else {}), **spec.config}


async def _connect(kafka: KafkaSettings) -> AIOKafkaAdminClient:
    admin = AIOKafkaAdminClient(**client_arguments(kafka, "topics"))
    try:
        await admin.start()
    except (KafkaError, OSError) as error:
        await admin.close()
        raise unreachable(kafka, error) from None
    return admin


async def _check(admin: AIOKafkaAdminClient, wanted: list[WantedTopic], fresh: frozenset[str] = frozenset()) -> None:
    """Raise what differs; what was made just now may take a moment to be known to every broker that may answer."""
    lines = await _differences(admin, wanted)
    for _ in range(_VISIBLE_POLLS):
        if not lines or not fresh.issuperset(line.partition(" ")[0] for line in lines):
            break
        await asyncio.sleep(_VISIBLE_POLL_SECONDS)
        lines = await _differences(admin, wanted)
    if lines:
        raise TopicMismatch("\n".join(lines))


async def _differences(admin: AIOKafkaAdminClient, wanted: list[WantedTopic]) -> list[str]:
    existing = set(await admin.list_topics())
    names = [w.name for w in wanted if w.name in existing]
    partitions: dict[str, int] = {}
    configs: dict[str, dict[str, str]] = {}
    if names:
        for entry in await admin.describe_topics(names):
            partitions[entry["topic"]] = len(entry["partitions"])
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        for response in await admin.describe_configs(resources):
            for resource in response.resources:
                configs[resource[3]] = {entry[0]: entry[1] for entry in resource[4]}
    return mismatches(wanted, partitions, configs)
