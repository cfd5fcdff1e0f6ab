"""``sluicegate node-agent`` as users run it, on a node of namespaces, with one privilege, through a real broker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from response.signing import Signer
from schemas.action import Action
from schemas.node_command import NodeCommand
from schemas.node_report import NodeReport
from schemas.word import from_iso, iso_time
from sluicegate.local_broker import LocalBroker
from stream.settings import KafkaSettings, TopicSettings
from stream.topics_admin import create_topics
from tests.integration.node.conftest import KEY, SIGNER, ruleset
from tests.integration.node.conversations import Conversation, wall
from tests.integration.node.relay import Relay
from tests.integration.stream.harness import Topics
from tests.lab import pods
from tests.lab.lab import Lab, missing, wait_for

pytestmark = [
    pytest.mark.kafka, pytest.mark.lab, pytest.mark.timeout(300),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]  # fmt: skip

SLUICEGATE = str(Path(sys.executable).with_name("sluicegate"))
# What the chart gives the container: no right but these.
ONE_RIGHT, CAPTURE_RIGHTS = "+net_admin", "+net_admin,+net_raw"
ATTACKER = pods.BY_NAME["attacker"]
PAIR = {"source": ATTACKER.ip4, "destination": pods.OUTSIDE4}
# Somebody else's table, which must be the same to the byte whatever happens to ours.
FOREIGN = """
table ip others {
    set known { type ipv4_addr; elements = { 192.0.2.7, 192.0.2.9 } }
    chain forward {
        type filter hook forward priority filter; policy accept;
        ip saddr @known counter drop
    }
}
"""


@pytest.fixture
async def topics(local_kafka: LocalBroker) -> AsyncIterator[Topics]:
    prefix = f"t{uuid.uuid4().hex[:12]}"
    await create_topics(KafkaSettings(bootstrap=local_kafka.bootstrap, prefix=prefix), TopicSettings())
    producer = AIOKafkaProducer(bootstrap_servers=local_kafka.bootstrap)
    await producer.start()
    yield Topics(local_kafka.bootstrap, prefix, producer)
    await producer.stop()


class AgentProcess:
    """The agent, and what it told."""

    def __init__(self, lab: Lab, topics: Topics, folder: Path, rights: str = ONE_RIGHT) -> None:
        self._rights = rights
        self._lab, self._topics, self._folder = lab, topics, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._number = 0
        self.log = folder / "agent.log"
        public = KEY.public_key().public_bytes_raw().hex()
        (folder / "keys.yaml").write_text(f"responder: {{person: the responder, public_key: '{public}'}}\n")

    def run(self, *options: str, **settings: str) -> subprocess.Popen[bytes]:
        """Begin a process of the agent's command in the node's namespace."""
        environment = {
            "SLUICEGATE_STREAM__KAFKA__BOOTSTRAP": self._topics.bootstrap,
            "SLUICEGATE_STREAM__KAFKA__PREFIX": self._topics.prefix,
            "SLUICEGATE_RESPONSE__NODE_AGENT__PUBLIC_KEYS_FILE": str(self._folder / "keys.yaml"),
            "SLUICEGATE_RESPONSE__NODE_AGENT__INTERVAL_S": "0.5",
            **{f"SLUICEGATE_RESPONSE__NODE_AGENT__{name.upper()}": value for name, value in settings.items()},
        }
        limited = ["setpriv", f"--bounding-set=-all,{self._rights}", "--inh-caps=-all", "--no-new-privs"]
        command = ["ip", "netns", "exec", self._lab.space("node"), *limited, SLUICEGATE, "node-agent",
                   "--node", "node1", *options]  # fmt: skip
        with self.log.open("ab") as out:
            return subprocess.Popen(command, env=os.environ | environment, stdout=out, stderr=out)

    def start(self, **settings: str) -> None:
        """Start, and wait until commands are read."""
        before = self.log.read_bytes().count(b"commands read") if self.log.exists() else 0
        self._process = self.run(**settings)
        wait_for(lambda: self.log.read_bytes().count(b"commands read") > before, self._log_tail(), 60)

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(30)

    def close(self) -> None:
        """Kill what runs, and clean the node."""
        if self._process is not None and self._process.poll() is None:
            self.end(signal.SIGKILL)
        assert self.run("--uninstall").wait(30) == 0, self._log_tail()

    def command(self, now: float, **fields: Any) -> NodeCommand:
        """A command for this node, not signed yet."""
        self._number += 1
        return NodeCommand.model_validate(
            {"id": f"command-{self._number}", "cluster": "local", "node": "node1", "verb": "apply",
             "response_id": "r1", "issued_at": iso_time(now), "expires_at": iso_time(now + 300), **fields}
        )  # fmt: skip

    async def tell(self, **fields: Any) -> NodeCommand:
        """Sign and send a command."""
        word = SIGNER.sign(self.command(wall(), **fields))
        await self.send(word)
        return word

    async def send(self, *words: NodeCommand) -> None:
        """Send commands as they are."""
        await self._topics.send("nodecommands.v1", [("local/node1", word.encode()) for word in words])

    async def actions(self, count: int) -> list[Action]:
        """Everything on actions.v1 once there are so many."""
        found = await self._topics.read("actions.v1", lambda records: len(records) >= count)
        return [Action.decode(record.value) for record in found]

    async def report(self, fits: Callable[[NodeReport], bool]) -> NodeReport:
        """The first report that fits."""
        found = await self._topics.read(
            "nodereports.v1", lambda records: any(fits(NodeReport.decode(one.value)) for one in records)
        )
        return next(report for one in found if fits(report := NodeReport.decode(one.value)))

    def _log_tail(self) -> str:
        return self.log.read_text()[-800:] if self.log.exists() else "nothing logged"


@pytest.fixture
def agent(lab: Lab, topics: Topics, local_kafka: LocalBroker, tmp_path: Path) -> Iterator[AgentProcess]:
    with Relay(lab.space("node"), int(local_kafka.bootstrap.rpartition(":")[2])):
        made = AgentProcess(lab, topics, tmp_path)
        yield made
        made.close()


async def test_a_signed_command_cuts_and_everything_is_told(lab: Lab, agent: AgentProcess, tmp_path: Path) -> None:
    agent.start()
    attack = Conversation(lab, tmp_path, "attacker", pods.OUTSIDE4)
    neighbour = Conversation(lab, tmp_path, "client1", pods.OUTSIDE4)
    await agent.tell(cuts=[PAIR], action="cut_on_node", alert_id="a1", decided_tick=7)
    attack.wait_for("lost", wall())
    (action,) = await agent.actions(1)
    assert (action.outcome, action.reason, action.action, action.target) == (
        "node_set",
        "set",
        "cut_on_node",
        "node/node1",
    )
    assert (action.alert_id, action.decided_tick) == ("a1", 7)
    report = await agent.report(lambda one: any(entry.packets > 2 for entry in one.entries))
    assert [(entry.what, entry.response_id) for entry in report.entries] == [
        (
            f"{pods.OUTSIDE4} ↔ {ATTACKER.ip4}"
            if ATTACKER.ip4 > pods.OUTSIDE4
            else f"{ATTACKER.ip4} ↔ {pods.OUTSIDE4}",
            "r1",
        )
    ]
    metrics = lab.run("node", ["curl", "-s", "http://127.0.0.1:9464/metrics"])
    assert 'sluicegate_node_entries{kind="cut"} 1.0' in metrics
    assert "sluicegate_node_enforcing 1.0" in metrics
    assert lab.run("node", ["curl", "-s", "http://127.0.0.1:9464/readyz"]) == "ok\n"
    lifted = wall()
    await agent.tell(verb="lift")
    attack.wait_for("ok", lifted)
    assert (await agent.actions(2))[1].outcome == "node_lifted"
    assert {q.word for q in neighbour.since(0.0)} == {"ok"}


async def test_what_is_not_to_be_obeyed_is_refused_and_told(lab: Lab, agent: AgentProcess) -> None:
    agent.start(widest_ipv6="64", never='["192.0.2.53/32"]')
    before = ruleset(lab)
    now = wall()
    stranger = Signer("responder", Ed25519PrivateKey.generate())
    good = SIGNER.sign(agent.command(now, cuts=[PAIR]))
    limit = {"victim": ATTACKER.ip4, "protocol": "TCP", "port": 80, "per_source": 1, "in_all": 100}
    refused = {
        "unsigned": agent.command(now, cuts=[PAIR]),
        "unknown_key": Signer("somebody", KEY).sign(agent.command(now, cuts=[PAIR])),
        "bad_signature": stranger.sign(agent.command(now, cuts=[PAIR])),
        "expired": SIGNER.sign(agent.command(now, cuts=[PAIR], expires_at=iso_time(now - 1))),
        "too_long": SIGNER.sign(agent.command(now, cuts=[PAIR], expires_at=iso_time(now + 10**6))),
        "stale": SIGNER.sign(agent.command(now - 10**6, cuts=[PAIR])),
        "too_wide": SIGNER.sign(agent.command(now, cuts=[PAIR | {"destination": "192.0.2.0/24"}])),
        "protected": SIGNER.sign(agent.command(now, cuts=[PAIR | {"destination": pods.NODE_UPLINK4}])),
        "bad_address": SIGNER.sign(agent.command(now, cuts=[PAIR | {"destination": "127.0.0.1"}])),
        "bad_entry": SIGNER.sign(agent.command(now)),
        "too_low": SIGNER.sign(agent.command(now, limits=[limit])),
    }
    dns = SIGNER.sign(agent.command(now, cuts=[PAIR | {"destination": "192.0.2.53"}]))
    elsewhere = SIGNER.sign(agent.command(now, cuts=[PAIR], node="node2"))
    moved = elsewhere.model_copy(update={"node": "node1", "id": "command-moved"})
    await agent.send(elsewhere, *refused.values(), dns, moved)
    told = [(action.outcome, action.reason) for action in await agent.actions(len(refused) + 2)]
    assert told == [("node_refused", reason) for reason in (*refused, "protected", "bad_signature")]
    assert ruleset(lab) == before
    await agent.send(good, good)
    told = [(action.outcome, action.reason) for action in await agent.actions(len(refused) + 4)]
    assert told[-2:] == [("node_set", "set"), ("node_refused", "replayed")]
    await agent.tell(verb="lift")
    # The same command again, by whoever kept a copy: its signature is good, and it was said before.
    await agent.send(good)
    told = [(action.outcome, action.reason) for action in await agent.actions(len(refused) + 6)]
    assert told[-2:] == [("node_lifted", "command"), ("node_refused", "replayed")]
    report = await agent.report(lambda one: one.refused[:1] != () and one.refused[0].reason == "replayed")
    assert report.state == "enforcing"


async def test_entries_expire_though_the_agent_was_killed(lab: Lab, agent: AgentProcess, tmp_path: Path) -> None:
    agent.start()
    attack = Conversation(lab, tmp_path, "attacker", pods.OUTSIDE4)
    expires = wall() + 5
    await agent.tell(cuts=[PAIR], expires_at=iso_time(expires))
    await agent.actions(1)
    agent.end(signal.SIGKILL)
    attack.wait_for("lost", wall())
    attack.wait_for("ok", expires - 1, 5, 15)
    assert [q for q in attack.since(expires - 3) if q.word == "ok" and q.asked < expires - 1] == []


async def test_a_restart_takes_up_the_kernel_and_the_topic(lab: Lab, agent: AgentProcess) -> None:
    agent.start()
    await agent.tell(cuts=[PAIR])
    await agent.tell(response_id="r2", cuts=[{"source": ATTACKER.ip6, "destination": pods.OUTSIDE6}])
    await agent.actions(2)
    agent.end(signal.SIGKILL)
    # While nobody is there the node loses its tables, as by a reboot, and one response is taken back.
    lab.run("node", ["nft", "flush", "ruleset"])
    await agent.tell(verb="lift", response_id="r2")
    agent.start()
    wait_for(lambda: ATTACKER.ip4 in ruleset(lab), "the pair to be cut again")
    assert ATTACKER.ip6 not in ruleset(lab)
    agent.end(signal.SIGTERM)
    # What was told before the restarts is not told again.
    assert [action.outcome for action in await agent.actions(3)] == ["node_set", "node_set", "node_lifted"]
    with_entries = ruleset(lab)
    assert ATTACKER.ip4 in with_entries
    agent.start()
    await agent.report(lambda one: wall() - 5 < from_iso(one.at) and len(one.entries) == 1)
    assert ATTACKER.ip4 in ruleset(lab)


async def test_without_the_broker_entries_are_kept_and_expire(
    lab: Lab, agent: AgentProcess, local_kafka: LocalBroker, tmp_path: Path
) -> None:
    agent.start()
    attack = Conversation(lab, tmp_path, "attacker", pods.OUTSIDE4)
    expires = wall() + 25
    await agent.tell(cuts=[PAIR], expires_at=iso_time(expires))
    await agent.actions(1)
    local_kafka.stop_node(0)
    try:
        # Somebody reloads the firewall meanwhile: the agent mends its tables from what it knows.
        lab.run("node", ["nft", "flush", "ruleset"])
        wait_for(lambda: ATTACKER.ip4 in ruleset(lab), "the tables to be mended", 15)
        attack.wait_for("lost", wall())
        attack.wait_for("ok", expires - 1, 5, 60)
    finally:
        local_kafka.start_node(0)
    await agent.tell(response_id="r2", cuts=[PAIR])
    attack.wait_for("lost", wall(), 3, 60)


async def test_uninstalling_leaves_the_rules_of_others_to_the_byte(
    lab: Lab, agent: AgentProcess, tmp_path: Path
) -> None:
    (tmp_path / "others.nft").write_text(FOREIGN)
    lab.run("node", ["nft", "-f", str(tmp_path / "others.nft")])
    try:
        before = ruleset(lab)
        agent.start()
        limit = {"victim": ATTACKER.ip4, "protocol": "TCP", "port": 80, "per_source": 20, "in_all": 100}
        await agent.tell(cuts=[PAIR], limits=[limit])
        await agent.actions(1)
        assert agent.end(signal.SIGTERM) == 0
        assert "sluicegate" in ruleset(lab)
        assert agent.run("--uninstall").wait(30) == 0
        assert ruleset(lab) == before
        assert agent.run("--uninstall").wait(30) == 0
        agent.start(stop="remove")
        wait_for(lambda: ATTACKER.ip4 in ruleset(lab), "the pair to be cut again")
        assert agent.end(signal.SIGTERM) == 0
        assert ruleset(lab) == before
    finally:
        lab.run("node", ["nft", "delete", "table", "ip", "others"])


async def test_where_packets_would_bypass_the_tables_nothing_is_claimed(lab: Lab, agent: AgentProcess) -> None:
    lab.run("node", ["ip", "link", "add", "cilium_host", "type", "bridge"])
    try:
        agent.start()
        await agent.tell(cuts=[PAIR])
        (action,) = await agent.actions(1)
        assert (action.outcome, action.reason) == ("node_refused", "cilium")
        assert "sluicegate" not in ruleset(lab)
        report = await agent.report(lambda one: one.state == "refusing")
        assert report.reason == "cilium"
        assert "cilium_host" in lab.run("node", ["curl", "-s", "http://127.0.0.1:9464/readyz"])
        agent.end(signal.SIGTERM)
        agent.start(bypass="ignore")
        await agent.tell(cuts=[PAIR])
        assert (await agent.actions(2))[1].outcome == "node_set"
    finally:
        lab.run("node", ["ip", "link", "del", "cilium_host"])


async def test_a_flood_of_refusals_is_told_up_to_a_limit(lab: Lab, agent: AgentProcess) -> None:
    agent.start(refusals_per_minute="5")
    await agent.send(*(agent.command(wall(), cuts=[PAIR]) for _ in range(50)))
    await agent.tell(cuts=[PAIR])
    told = await agent.actions(6)
    assert [action.outcome for action in told] == ["node_refused"] * 5 + ["node_set"]
    metrics = lab.run("node", ["curl", "-s", "http://127.0.0.1:9464/metrics"])
    assert "sluicegate_node_refusals_untold_total 45.0" in metrics
    assert 'sluicegate_node_commands_total{outcome="node_refused",reason="unsigned"} 50.0' in metrics


def test_without_the_right_the_agent_says_so(lab: Lab, tmp_path: Path) -> None:
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", SLUICEGATE, "node-agent", "--uninstall"]
    done = subprocess.run(
        ["ip", "netns", "exec", lab.space("node"), *command], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 1
    assert "NET_ADMIN" in done.stderr
