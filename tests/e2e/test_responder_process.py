"""`sluicegate respond` as processes: real Kafka, real API server, two of them and one Lease, woken by watches."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap

from response.kube_kinds import RawNetworkPolicy
from response.signing import load_signer, new_keys, write_private_key
from schemas.alert import CONTAINMENT_OVERDUE, Alert, decode_alert_record
from schemas.finding import Endpoint
from schemas.incident import Incident, IncidentAlert
from schemas.response import ActionName, Mode, ResponseDecision
from schemas.topics import ALERTS, INCIDENTS, RESPONSES, TopicSpec
from schemas.word import Word
from sluicegate.action_reader import read_actions
from sluicegate.command_sender import Wish, make_command, send
from sluicegate.demo_broker import delete_topics
from sluicegate.demo_place import CACHE
from sluicegate.demo_processes import DemoProcess
from sluicegate.local_broker import local_broker, missing_tools
from sluicegate.topic_reader import read_topic
from stream.settings import KafkaSettings, TopicSettings
from stream.topics_admin import create_topics
from tests.e2e.conftest import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.timeout(900)]

DEADLINE_SECONDS = 60.0
ATTACKER, VICTIM = "198.18.8.10", "203.0.113.9"


@pytest.fixture(scope="module")
def kafka() -> Iterator[KafkaSettings]:
    prefix = f"e2e{uuid.uuid4().hex[:12]}"
    named = os.environ.get("SLUICEGATE_KAFKA")
    if named is None and (problems := missing_tools(CACHE)):
        pytest.skip("; ".join(problems))
    if named is not None:
        settings = KafkaSettings(bootstrap=named, prefix=prefix)
        asyncio.run(create_topics(settings, TopicSettings()))
        yield settings
        asyncio.run(delete_topics(settings, [name for name in _topics(named) if name.startswith(prefix)]))
        return
    with local_broker(CACHE) as broker:
        settings = KafkaSettings(bootstrap=broker.bootstrap, prefix=prefix)
        asyncio.run(create_topics(settings, TopicSettings()))
        yield settings


def _topics(bootstrap: str) -> list[str]:
    async def listed() -> list[str]:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            return list(await admin.list_topics())
        finally:
            await admin.close()

    return asyncio.run(listed())


class Desk:
    """Two responders for one cluster, and an operator."""

    def __init__(self, cluster: Cluster, kafka: KafkaSettings, place: Path) -> None:
        self.cluster, self.kafka, self.place = cluster, kafka, place
        private, lines = new_keys("ana-1", "Ana")
        write_private_key(place / "ana.pem", private)
        (place / "operators.yaml").write_text(lines)
        self.signer = load_signer(place / "ana.pem", "ana-1")
        self.running: list[DemoProcess] = []

    def start(self, name: str) -> DemoProcess:
        namespace = self.cluster.namespace
        environment = {
            "SLUICEGATE_STREAM__KAFKA__BOOTSTRAP": self.kafka.bootstrap,
            "SLUICEGATE_STREAM__KAFKA__PREFIX": self.kafka.prefix,
            "SLUICEGATE_RESPONSE__COMMANDS__PUBLIC_KEYS_FILE": str(self.place / "operators.yaml"),
            "SLUICEGATE_RESPONSE__UPKEEP__LEASE": f"{namespace}/responder",
            "SLUICEGATE_RESPONSE__UPKEEP__KILL_SWITCH": f"{namespace}/stop",
            # What happens below within seconds is by watches.
            "SLUICEGATE_RESPONSE__UPKEEP__RECONCILE_S": "3600",
        }
        arguments = ["respond", "--kubeconfig", str(self.cluster.kubeconfig), "--cluster", "test"]
        self.running.append(DemoProcess(name, arguments, environment, self.place))
        return self.running[-1]

    def decide(
        self, response_id: str, action: ActionName = "block_egress_destination", mode: Mode = "enforce",
        deadline_s: int = 3600,
    ) -> None:  # fmt: skip
        attacker = Endpoint(ip=ATTACKER, pod="web-1", namespace=self.cluster.namespace, identity="known")
        decision = ResponseDecision(
            id=response_id, alert_id=f"alert-{response_id}", alert_revision=1, cluster="test", detector="port_scan",
            kind="port_scan_vertical", severity="high", confidence=0.9, category="intrusion", mode=mode,
            actions=(action,), attackers=(attacker,), victims=(Endpoint(ip=VICTIM, port=443, protocol="TCP"),),
            spoofable=False, decided_tick=_now(), deadline_s=deadline_s, ttl_s=3600, reason="test",
        )  # fmt: skip
        asyncio.run(self.publish(RESPONSES, decision))

    async def publish(self, topic: TopicSpec, word: Word) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka.bootstrap, acks="all")
        await producer.start()
        try:
            await producer.send_and_wait(topic.name(self.kafka.prefix), word.encode(), b"x")
        finally:
            await producer.stop()

    def applied(self, response_id: str) -> float:
        """Wait until a response is proven on what was applied; before, somebody's change would make it fail."""
        name = f"sluicegate-{response_id}"
        took = until(lambda: self.ours() == {name}, f"{name} is written")
        self.told(response_id, "applied proven")
        return took

    def told(self, response_id: str, step: str) -> None:
        """Wait until the audit has a step of a response."""
        until(
            lambda: any(line.startswith(f"{response_id} ") and f" {step}: " in line for line in audit(self.kafka)),
            f"{response_id} {step}",
        )

    def command(self, verb: Any, target: str) -> list[str]:
        command = make_command(Wish(verb, target, "test"), self.signer, _now())
        return [f"{step.outcome} {step.reason}" for step in asyncio.run(send(self.kafka, command, 30.0))]

    def ours(self) -> set[str]:
        return {name for name in self.cluster.policies() if name.startswith("sluicegate-")}


def _now() -> int:
    return int(time.time())  # noqa: TID251 - the responder reads a clock


def audit(kafka: KafkaSettings) -> list[str]:
    """The steps of the audit so far."""

    async def read() -> list[str]:
        steps = [step async for step in read_actions(kafka, 0.0) if step is not None]
        return [f"{s.response_id} {s.action} {s.outcome} {s.reason}: {s.message}" for s in steps]

    return asyncio.run(read())


def until(what: Callable[[], bool], said: str) -> float:
    """Wait for a condition with a deadline; how long it took, s."""
    began = time.monotonic()
    while not what():
        if time.monotonic() - began > DEADLINE_SECONDS:
            pytest.fail(f"not within {DEADLINE_SECONDS:.0f} s: {said}")
        time.sleep(0.05)
    return time.monotonic() - began


@pytest.fixture
def desk(cluster: Cluster, kafka: KafkaSettings, tmp_path: Path) -> Iterator[Desk]:
    cluster.pod("web-1", ATTACKER, {"app": "web"})
    made = Desk(cluster, kafka, tmp_path)
    yield made
    for process in made.running:
        process.stop()
    print("\n".join(audit(kafka)))


def test_a_missed_deadline_becomes_one_alert_with_its_incident(desk: Desk) -> None:
    asyncio.run(desk.start("one").ready())
    incident = Incident(
        id="i-1", revision=1, status="open", cluster="test", severity="high", started_at="", updated_at="",
        tick=_now(), attackers=(), victims=(), techniques=(), alerts_total=1, summary="",
        alerts=(IncidentAlert(id="alert-late", detector="port_scan", kind="port_scan_vertical", severity="high",
                              detected_at="", explanation=""),),
    )  # fmt: skip
    asyncio.run(desk.publish(INCIDENTS, incident))
    began = time.monotonic()
    desk.decide("late", mode="approve", deadline_s=2)
    until(lambda: len(overdue(desk.kafka)) == 1, "an alert says that the deadline was missed")
    took = time.monotonic() - began
    desk.told("late", "missed deadline")
    desk.decide("again", mode="approve", deadline_s=0)
    until(lambda: len(overdue(desk.kafka)) == 2, "what is due at once is missed at once")
    first, second = overdue(desk.kafka)
    assert (first.subject, second.subject) == ("incident i-1", "response again")
    assert [item.attackers[0].pod for item in (first, second)] == ["web-1", "web-1"]
    desk.running[0].stop()
    asyncio.run(desk.start("two").ready())
    assert desk.command("allow", "192.0.2.1") == ["allowed command"]
    assert len(overdue(desk.kafka)) == 2, "a restart does not tell it again"
    print(f"\na deadline of 2 s was an alert after {took:.1f} s")


def overdue(kafka: KafkaSettings) -> list[Alert]:
    """The alerts about late responses."""

    async def read() -> list[Alert]:
        words = [decode_alert_record(r.value or b"") async for r in read_topic(kafka, ALERTS, 0.0) if r is not None]
        return [word for word in words if isinstance(word, Alert) and word.kind == CONTAINMENT_OVERDUE]

    return asyncio.run(read())


def test_one_acts_the_other_takes_over_and_the_kill_switch_ends_all(desk: Desk) -> None:
    before = desk.cluster.policies()
    one = desk.start("one")
    asyncio.run(one.ready())
    two = desk.start("two")
    took: dict[str, float] = {}

    desk.decide("first")
    took["applied"] = desk.applied("first")
    desk.cluster.create_policy("deny", {"podSelector": {}, "policyTypes": ["Egress"]})
    took["hole closed"] = until(lambda: desk.ours() == set(), "ours goes when a default-deny makes it a hole")
    # The ladder is tried once more, and finds the attack blocked; were the policy gone by then, it would be applied.
    desk.told("first", "refused already_blocked")
    desk.cluster.client.delete(RawNetworkPolicy, "deny", namespace=desk.cluster.namespace)

    desk.decide("second", "quarantine_pod")
    desk.applied("second")
    desk.cluster.client.delete(RawNetworkPolicy, "sluicegate-second", namespace=desk.cluster.namespace)
    took["repaired"] = until(lambda: desk.ours() == {"sluicegate-second"}, "a deleted policy is written again")
    assert desk.command("revert", "second") == ["reverted command"]
    assert desk.ours() == set()
    assert "sluicegate.io/quarantine" not in desk.cluster.get_pod("web-1")["metadata"]["labels"]

    os.kill(one._process.pid, signal.SIGKILL)
    began = time.monotonic()
    asyncio.run(two.ready())
    took["taken over"] = time.monotonic() - began
    assert desk.command("approve", "second") == ["refused not_waiting"], "the second knows what the first did"
    desk.decide("third")
    desk.applied("third")

    stop = ObjectMeta(name="stop", namespace=desk.cluster.namespace)
    # Nothing else happens: that it is acted on is by its watch.
    desk.cluster.client.create(ConfigMap(metadata=stop))
    took["stopped"] = until(lambda: desk.ours() == set(), "the kill switch takes everything back")
    desk.decide("fourth")
    assert desk.command("allow", "192.0.2.1") == ["allowed command"]
    assert desk.cluster.policies() == before
    desk.cluster.client.delete(ConfigMap, "stop", namespace=desk.cluster.namespace)
    print("\nseconds:", {name: round(value, 2) for name, value in took.items()})
