"""Ports that are limited on a node, with real connections: each source first, then all together."""

from __future__ import annotations

import time

import pytest

from schemas.word import iso_time
from tests.integration.node.conftest import Agent
from tests.integration.node.conversations import OTHER_PORT, PORT, open_many, wall
from tests.lab import pods
from tests.lab.lab import Lab, missing

pytestmark = [
    pytest.mark.lab, pytest.mark.timeout(180), pytest.mark.skipif(missing() is not None, reason=str(missing())),
]  # fmt: skip

WEB = pods.BY_NAME["web"]


def limit(victim: str, per_source: int, in_all: int) -> list[dict[str, object]]:
    return [{"victim": victim, "protocol": "TCP", "port": PORT, "per_source": per_source, "in_all": in_all}]


@pytest.mark.parametrize("victim", [WEB.ip4, WEB.ip6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("where", ["outside", "attacker"])
def test_each_source_gets_its_share_and_no_more(lab: Lab, agent: Agent, victim: str, where: str) -> None:
    assert agent.tell(wall(), limits=limit(victim, 10, 1000)) == ""
    # A burst of one second's worth, and what accrues while connections are tried and tried again.
    assert 10 <= open_many(lab, where, victim, 100) <= 40
    # Another source and another port have shares of their own.
    assert open_many(lab, "client1", victim, 10) == 10
    assert open_many(lab, where, victim, 50, OTHER_PORT) == 50
    agent.enforcer.settle(wall())
    (entry,) = agent.enforcer.report(wall()).entries
    assert (entry.kind, entry.what) == ("limit", f"{victim} TCP/{PORT}")
    assert entry.packets >= 60


def test_all_together_are_limited_after_each(lab: Lab, agent: Agent) -> None:
    assert agent.tell(wall(), limits=limit(WEB.ip4, 1000, 50)) == ""
    assert 50 <= open_many(lab, "outside", WEB.ip4, 400) <= 200
    # Whoever comes next finds the port's share taken, whoever took it.
    assert agent.tell(wall(), verb="lift") == ""
    assert open_many(lab, "client1", WEB.ip4, 100) == 100


def test_other_rates_take_the_place_of_the_first(lab: Lab, agent: Agent) -> None:
    assert agent.tell(wall(), limits=limit(WEB.ip4, 10, 1000)) == ""
    assert agent.tell(wall(), limits=limit(WEB.ip4, 500, 1000)) == ""
    assert open_many(lab, "outside", WEB.ip4, 100) == 100
    (entry,) = agent.enforcer.report(wall()).entries
    assert entry.packets == 0


def test_a_limit_that_the_kernel_forgot_is_inert_and_then_removed(lab: Lab, agent: Agent) -> None:
    now = wall()
    assert agent.tell(now, limits=limit(WEB.ip4, 5, 50), expires_at=iso_time(now + 1)) == ""
    time.sleep(max(0.0, now + 2.5 - wall()))
    assert open_many(lab, "outside", WEB.ip4, 100) == 100
    look = agent.tables.look()
    assert look is not None
    assert [len(one.idle_chains) for one in look.values()] == [1, 1]
    agent.enforcer.settle(wall())
    look = agent.tables.look()
    assert look is not None
    assert [(len(one.entries), len(one.idle_chains)) for one in look.values()] == [(0, 0), (0, 0)]
