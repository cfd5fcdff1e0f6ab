"""Pairs that are cut on a node, with real packets: established connections, both versions of IP, neighbours."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.word import iso_time
from tests.integration.node.conftest import Agent
from tests.integration.node.conversations import OTHER_PORT, PORT, Conversation, open_many, wall
from tests.lab import pods
from tests.lab.lab import Lab, missing

pytestmark = [
    pytest.mark.lab, pytest.mark.timeout(180), pytest.mark.skipif(missing() is not None, reason=str(missing())),
]  # fmt: skip

WEB, ATTACKER, CLIENT = (pods.BY_NAME[name] for name in ("web", "attacker", "client1"))
ROUTED = [(ATTACKER.ip4, pods.OUTSIDE4, CLIENT.ip4), (ATTACKER.ip6, pods.OUTSIDE6, CLIENT.ip6)]
SWITCHED = [(ATTACKER.ip4, WEB.ip4, CLIENT.ip4), (ATTACKER.ip6, WEB.ip6, CLIENT.ip6)]


def cut_and_watch(lab: Lab, agent: Agent, folder: Path, ends: tuple[str, str, str], **more: object) -> float:
    """Cut an established connection; returns s from the command to the last answered question (negative: before)."""
    source, destination, _ = ends
    attack = Conversation(lab, folder, "attacker", destination)
    neighbour = Conversation(lab, folder, "client1", destination)
    begun = wall()
    assert agent.tell(begun, cuts=[{"source": source, "destination": destination, **more}]) == ""
    done = wall()
    attack.wait_for("lost", done, 3)
    assert [q for q in attack.since(done) if q.word == "ok"] == []
    neighbour.wait_for("ok", done, 30)
    assert {q.word for q in neighbour.since(0.0)} == {"ok"}
    return max((q.asked for q in attack.since(0.0) if q.word == "ok"), default=begun) - begun


@pytest.mark.parametrize("ends", ROUTED, ids=["ipv4", "ipv6"])
def test_an_established_connection_to_the_outside_is_cut_at_once(
    lab: Lab, agent: Agent, tmp_path: Path, ends: tuple[str, str, str], record_property: pytest.FixtureRequest
) -> None:
    record_property("last_answer_after_s", cut_and_watch(lab, agent, tmp_path, ends))  # type: ignore[operator]
    agent.enforcer.settle(wall())
    (entry,) = agent.enforcer.report(wall()).entries
    assert entry.packets >= 3
    assert entry.last_cut > 0
    assert entry.response_id == "r1"


@pytest.mark.parametrize("call_iptables", [0, 1])
@pytest.mark.parametrize("ends", SWITCHED, ids=["ipv4", "ipv6"])
def test_a_connection_over_a_bridge_is_cut_whether_or_not_the_bridge_shows_it_to_ip(
    lab: Lab, agent: Agent, tmp_path: Path, ends: tuple[str, str, str], call_iptables: int
) -> None:
    lab.sysctl("node", **{f"net__bridge__bridge-nf-call-{name}": call_iptables for name in ("iptables", "ip6tables")})
    cut_and_watch(lab, agent, tmp_path, ends)


def test_without_the_second_table_such_a_bridge_is_out_of_sight(lab: Lab, tmp_path: Path) -> None:
    lab.sysctl("node", **{"net__bridge__bridge-nf-call-iptables": 0})
    agent = Agent(lab, bridge=False)
    attack = Conversation(lab, tmp_path, "attacker", WEB.ip4)
    now = wall()
    try:
        assert agent.tell(now, cuts=[{"source": ATTACKER.ip4, "destination": WEB.ip4}]) == ""
        attack.wait_for("ok", wall(), 30)
    finally:
        agent.enforcer.remove()
        lab.sysctl("node", **{"net__bridge__bridge-nf-call-iptables": 1})


@pytest.mark.parametrize(("source", "destination"), [ends[:2] for ends in ROUTED], ids=["ipv4", "ipv6"])
def test_a_cut_of_one_port_leaves_the_others(
    lab: Lab, agent: Agent, tmp_path: Path, source: str, destination: str
) -> None:
    other = Conversation(lab, tmp_path, "attacker", destination, OTHER_PORT)
    cut_and_watch(lab, agent, tmp_path, (source, destination, ""), protocol="TCP", port=PORT)
    assert {q.word for q in other.since(0.0)} == {"ok"}


def test_a_lifted_cut_lets_the_same_connection_go_on(lab: Lab, agent: Agent, tmp_path: Path) -> None:
    attack = Conversation(lab, tmp_path, "attacker", pods.OUTSIDE4)
    agent.tell(wall(), cuts=[{"source": ATTACKER.ip4, "destination": pods.OUTSIDE4}])
    attack.wait_for("lost", wall())
    agent.tell(wall(), verb="lift")
    attack.wait_for("ok", wall(), 10)
    assert agent.enforcer.report(wall()).entries == ()


def test_the_kernel_forgets_a_cut_by_itself(lab: Lab, agent: Agent, tmp_path: Path) -> None:
    attack = Conversation(lab, tmp_path, "attacker", pods.OUTSIDE6)
    begun = wall()
    short = {"expires_at": "2100-01-01T00:00:00Z"}
    assert agent.tell(begun, cuts=[{"source": ATTACKER.ip6, "destination": pods.OUTSIDE6}], **short) == "too_long"
    agent.tell(begun, cuts=[{"source": ATTACKER.ip6, "destination": pods.OUTSIDE6}], expires_at=iso_time(begun + 3))
    attack.wait_for("lost", wall())
    # Nobody looks after the tables from here on.
    attack.wait_for("ok", begun + 3, 10)
    assert [q for q in attack.since(begun + 0.5) if q.word == "ok" and q.asked < begun + 2] == []


def test_a_block_of_ipv6_cuts_every_address_in_it(lab: Lab, agent: Agent, tmp_path: Path) -> None:
    agent.tell(wall(), cuts=[{"source": ATTACKER.ip6, "destination": "2001:db8::/64"}])
    assert open_many(lab, "attacker", pods.OUTSIDE6, 5) == 0
    assert open_many(lab, "client1", pods.OUTSIDE6, 5) == 5
