"""Unusual peers on generated conversations: a day of habits is longer than any capture we could keep."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from detectors.base import TickView
from detectors.detect import DetectEngine
from detectors.models.newcomers import AGAIN, PER_TICK
from detectors.models.peer_anomaly import PeerAnomaly, PeerAnomalyConfig
from detectors.models.windows import workload_name
from detectors.settings import EngineSettings
from detectors.snapshot import decode_state, encode_state
from detectors.tally import Tally, TallyRows
from schemas.addresses import pack
from schemas.exceptions import RoleRule, Selector
from schemas.finding import DataQuality, Finding
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from schemas.roles import Role
from tests.event_rows import CONVERSATION, UDP, Node, Row, flow
from tests.unit.detectors.one_detector import pod

START = 1_700_006_400 // 3600 * 3600
HOUR, DAY = 3600, 86_400
HABITS = [(f"10.0.1.{n}", 5432 + n % 3) for n in range(6)]
Talk = tuple[str, str, int]  # source, target, port


def half(ip: str) -> tuple[int, int]:
    packed = pack(ip)
    return int.from_bytes(packed[:8]), int.from_bytes(packed[8:])


def inventory(restarted: int = 0) -> IdentityTable:
    """Pods of a shop; each restart gives its web pods other addresses."""
    web = [pod(f"web-{n}", f"10.0.{2 + restarted}.{n}", "Deployment/web") for n in (1, 2, 3)]
    others = [pod(f"db-{n}", f"10.0.1.{n}", f"StatefulSet/db{n}") for n in range(6)]
    strangers = [pod(f"s-{n}", f"10.0.9.{n}", f"Deployment/s{n}", namespace=f"team{n}") for n in range(40)]
    node = InventoryObject(kind="Node", uid="node1", name="node1", ips=("192.168.0.9",))
    return IdentityTable([*web, *others, *strangers, node])


def view(at: int, talks: Iterable[Talk], identities: IdentityTable, suspects: Sequence[str] = ()) -> TickView:
    tick = START + at
    rows = {
        Tally("peer", workload_name(identities, src, tick) or src, half(src), half(dst), 6 << 16 | port): 1
        for src, dst, port in talks
    }
    return TickView({}, identities, {"": DataQuality()}, suspects=frozenset(suspects),
                    tallies=TallyRows(tick, tuple(sorted(rows.items()))))  # fmt: skip


def lived(model: PeerAnomaly, identities: IdentityTable, source: str = "10.0.2.1", hours: int = 26) -> list[Finding]:
    """The habits, told of every hour."""
    found = []
    for hour in range(hours):
        found += model.evaluate(view(hour * HOUR, [(source, *habit) for habit in HABITS], identities))
    return found


def strangers(count: int, source: str = "10.0.2.1", port: int = 22) -> list[Talk]:
    return [(source, f"10.0.9.{n}", port) for n in range(count)]


def test_habits_are_silent_and_strangers_are_told_with_what_made_them_strange() -> None:
    model, known = PeerAnomaly(), inventory()
    assert lived(model, known) == []
    (found,) = model.evaluate(view(26 * HOUR, strangers(3), known))
    assert (found.subject, found.severity, found.kind) == ("shop/Deployment/web", "medium", "peer_anomaly")
    assert [e.ip for e in found.attackers] == ["10.0.2.1"]
    assert [(e.ip, e.port) for e in found.victims] == [(f"10.0.9.{n}", 22) for n in range(3)]
    values = {e.name: e for e in found.evidence}
    assert values["surprise"].value > (values["surprise"].limit or 0) >= 18
    assert (values["new_peers"].value, values["new_ports"].value, values["new_namespaces"].value) == (3, 1, 3)
    assert found.techniques == ("T1021",)


def test_one_new_peer_is_no_anomaly() -> None:
    model, known = PeerAnomaly(), inventory()
    lived(model, known)
    assert model.evaluate(view(26 * HOUR, strangers(1), known)) == []


def test_is_silent_while_it_learns() -> None:
    model, known = PeerAnomaly(), inventory()
    lived(model, known, hours=20)
    assert model.evaluate(view(20 * HOUR, strangers(40), known)) == []


def test_a_rollout_is_no_anomaly() -> None:
    """All pods have new addresses, on both sides."""
    model = PeerAnomaly()
    lived(model, inventory())
    moved = [pod(f"db-{n}-new", f"10.0.77.{n}", f"StatefulSet/db{n}") for n in range(6)]
    web = [pod(f"web-{n}-new", f"10.0.88.{n}", "Deployment/web") for n in (1, 2, 3)]
    after = IdentityTable([*moved, *web])
    talks = [(f"10.0.88.{n}", f"10.0.77.{i}", port) for n in (1, 2, 3) for i, (_, port) in enumerate(HABITS)]
    assert model.evaluate(view(26 * HOUR, talks, after)) == []


def test_replicas_share_their_habits() -> None:
    model, known = PeerAnomaly(), inventory()
    lived(model, known)
    assert model.evaluate(view(26 * HOUR, [("10.0.2.2", *habit) for habit in HABITS], known)) == []


def test_who_always_meets_new_peers_surprises_nobody() -> None:
    """A crawler: five new peers every hour."""
    model, found = PeerAnomaly(), []
    for hour in range(60):
        talks = [("10.0.2.1", f"10.{hour}.{n}.1", 443) for n in range(5)]
        found += model.evaluate(view(hour * HOUR, talks, IdentityTable()))
    assert found == []


def test_addresses_outside_are_one_peer_for_each_port_and_nodes_are_one_peer() -> None:
    model, known = PeerAnomaly(), inventory()
    for hour in range(30):
        talks = [("10.0.2.1", f"93.184.{hour}.{n}", 443) for n in range(9)]
        talks += [("10.0.2.1", "192.168.0.9", 10250), *[("10.0.2.1", *h) for h in HABITS]]
        assert model.evaluate(view(hour * HOUR, talks, known)) == []


def test_without_an_inventory_a_network_is_a_peer_and_the_alert_is_low() -> None:
    model, nobody = PeerAnomaly(), IdentityTable()
    lived(model, nobody)
    restarted = [("10.0.2.1", f"10.0.1.{100 + n}", port) for n, (_, port) in enumerate(HABITS)]
    assert model.evaluate(view(26 * HOUR, restarted, nobody)) == []
    far = [("10.0.2.1", f"10.{n}.0.1", 22) for n in range(50, 54)]
    (found,) = model.evaluate(view(26 * HOUR + 60, far, nobody))
    assert (found.severity, found.subject) == ("low", "10.0.2.1")


def test_a_doubted_peer_is_new_again_until_it_is_a_habit() -> None:
    model, known = PeerAnomaly(), inventory()
    lived(model, known)
    fired = []
    for hour in range(26, 34):
        talks = strangers(3) + [("10.0.2.1", *habit) for habit in HABITS]
        fired.append(len(model.evaluate(view(hour * HOUR, talks, known))))
    assert fired[:3] == [1, 1, 1]
    assert fired[-2:] == [0, 0]


def test_what_a_rule_named_is_not_learned() -> None:
    model, known = PeerAnomaly(), inventory()
    lived(model, known)
    assert model.evaluate(view(26 * HOUR, strangers(1), known, suspects=["10.0.2.1"])) == []
    model.evaluate(view(27 * HOUR, [("10.0.2.1", *HABITS[0])], known))
    row = model._memory.admit("shop/Deployment/web", START + 27 * HOUR)
    assert (model._memory.store["peers"][row] != 0).sum() == len(HABITS)


@pytest.mark.parametrize("role", ["monitoring_scraper", "ingress", "vulnerability_scanner"])
def test_who_meets_everybody_by_profession_is_silent(role: Role) -> None:
    model, known = PeerAnomaly(), inventory()
    known.declare([RoleRule(role, Selector(cidrs=(ipaddress.ip_network("10.0.2.1/32"),)))])
    lived(model, known)
    assert model.evaluate(view(26 * HOUR, strangers(9), known)) == []


def test_a_restored_model_says_the_same_to_the_byte() -> None:
    whole, known = PeerAnomaly(), inventory()
    lived(whole, known)
    state = decode_state(encode_state(whole.snapshot()))
    again = PeerAnomaly()
    again.restore(state)
    assert encode_state(again.snapshot()) == encode_state(whole.snapshot())
    for at, count in ((0, 2), (100, 3), (4000, 5)):
        talks = strangers(count)
        results = [m.evaluate(view(26 * HOUR + at, talks, known)) for m in (whole, again)]
        assert results[0] == results[1]
    assert encode_state(again.snapshot()) == encode_state(whole.snapshot())


def test_memory_is_bounded() -> None:
    model = PeerAnomaly(PeerAnomalyConfig(workloads=16))
    for n in range(100):
        model.evaluate(view(n, [(f"10.0.3.{n}", "10.0.1.1", 80)], IdentityTable()))
    assert len(model._memory.store) == 16
    assert model._memory.store.refused == 84


# --- what a node tells ---


def told(seconds: dict[int, list[Row]], engine: DetectEngine | None = None) -> list[tuple[int, str, int, int]]:
    engine = engine or DetectEngine(0, EngineSettings(), [PeerAnomaly()], IdentityTable())
    node, out = Node(), []
    for at in sorted(seconds):
        for rollup in engine.feed([node.second(at, flows=seconds[at])]).rollups:
            if "tally" in rollup.batches:
                rows = rollup.batches["tally"].to_pylist()
                out += [(at, r["subject"], r["port"] & 0xFFFF, r["amount"]) for r in rows]
    return out


def test_a_conversation_is_told_once_an_hour_and_only_conversations() -> None:
    talk = [flow("10.0.0.1", "10.0.0.2", 5432, marks=CONVERSATION)]
    begin = -(-1_700_000_100 // AGAIN) * AGAIN - 1_700_000_100
    hours = told({begin + at: talk for at in (1, 2, 60, 3599, 3601, 3700)} | {begin + 3800: []})
    assert [(at - begin, who, port) for at, who, port, _ in hours] == [(1, "10.0.0.1", 5432), (3601, "10.0.0.1", 5432)]
    others = [flow("10.0.0.1", "10.0.0.2", 80), flow("10.0.0.1", "10.0.0.53", 53, marks=CONVERSATION, proto=UDP),
              flow("93.184.0.1", "10.0.0.2", 443, marks=CONVERSATION),
              flow("10.0.0.1", "10.0.0.2", 80, marks=CONVERSATION, copy=True)]  # fmt: skip
    assert told({1: others, 2: []}) == []


def test_a_burst_is_told_bit_by_bit_and_none_of_it_is_lost() -> None:
    burst = [flow("10.0.0.1", f"10.1.0.{n}", 80, marks=CONVERSATION) for n in range(200)]
    more = {at: [flow("10.0.0.1", "10.0.0.2", 81, marks=CONVERSATION)] for at in range(2, 30)}
    rows = told({1: burst} | more)
    by_second = np.bincount([at for at, *_ in rows], minlength=30).tolist()
    assert sum(by_second) == 201
    assert max(by_second) == PER_TICK
