"""Detectors that follow claims: what each sign is worth, and what only looks like it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from schemas.alert import Alert
from schemas.event_codec import EventMessage
from schemas.events import LinkClaim
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from stream.pipeline import Pipeline
from stream.stages import Parts, PipelineSettings
from tests.event_rows import BEGIN, Node, Row, arp, certificate, dhcp, flow, mac
from tests.unit.detectors.one_detector import run as findings

GATEWAY, VICTIM, OTHER, BAD = 1, 2, 3, 9  # hardware addresses by number
GW_IP, V_IP, O_IP, BAD_IP = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.9"


def run(messages: Sequence[EventMessage], identities: IdentityTable | None = None, **detectors: Any) -> list[Alert]:
    pipeline = Pipeline(Parts(PipelineSettings(detectors=detectors), identities))
    return [a for output in pipeline.run(messages) for a in output.alerts]


def play(seconds: dict[int, dict[str, list[Row]]]) -> list[EventMessage]:
    node = Node()
    return [node.second(at, **seconds[at]) for at in sorted(seconds)]


def link(seconds: dict[int, list[Row]]) -> list[EventMessage]:
    return play({at: {"link": rows} for at, rows in seconds.items()})


def worst(alerts: Sequence[Alert], detector: str) -> str | None:
    order = ("info", "low", "medium", "high", "critical")
    found = [a.severity for a in alerts if a.detector == detector]
    return max(found, key=order.index, default=None)


def known() -> list[Row]:
    """Everybody asks for the gateway, and it answers."""
    asks = [arp(VICTIM, V_IP, GW_IP), arp(OTHER, O_IP, GW_IP), arp(BAD, BAD_IP, GW_IP)]
    return asks + [
        arp(GATEWAY, GW_IP, ip, reply=True, to=n) for n, ip in ((VICTIM, V_IP), (OTHER, O_IP), (BAD, BAD_IP))
    ]


def pushed(ip: str = GW_IP) -> Row:
    return arp(BAD, ip, V_IP, reply=True, to=VICTIM)


# --- arp_spoof ---


def test_a_pushed_claim_of_a_living_gateway_is_spoofing_and_names_the_impostor() -> None:
    seconds = {1: known()} | {at: [pushed()] for at in range(10, 22, 2)}
    seconds[15] = [arp(GATEWAY, GW_IP, O_IP)]
    alerts = [a for a in run(link(seconds)) if a.detector == "arp_spoof"]
    assert worst(alerts, "arp_spoof") == "high"
    assert {(e.ip, e.mac) for a in alerts for e in a.attackers} == {(BAD_IP, "02:00:00:00:00:09")}
    assert {V_IP, GW_IP} <= {e.ip for a in alerts for e in a.victims}


def test_the_impostor_is_named_though_it_spoke_first() -> None:
    """Watching begins in the middle of an attack: the older claim known is the false one."""
    seconds = {1: [pushed(), arp(VICTIM, V_IP, BAD_IP), arp(BAD, BAD_IP, V_IP)]}
    seconds |= {at: [pushed()] for at in range(3, 20, 2)}
    seconds[6] = seconds[10] = seconds[14] = [arp(GATEWAY, GW_IP, V_IP)]
    alerts = run(link(seconds))
    assert {e.mac for a in alerts if a.detector == "arp_spoof" for e in a.attackers} == {"02:00:00:00:00:09"}


def test_claiming_both_ends_needs_no_other_owner() -> None:
    both = [pushed(), arp(BAD, V_IP, GW_IP, reply=True, to=GATEWAY)]
    seconds = {1: [arp(VICTIM, V_IP, GW_IP), arp(BAD, BAD_IP, GW_IP)], 5: both, 7: both}
    assert worst(run(link(seconds)), "arp_spoof") in ("medium", "high")


def test_asking_for_what_one_claims() -> None:
    seconds = {1: [arp(VICTIM, V_IP, BAD_IP)], 5: [pushed()], 9: [arp(BAD, BAD_IP, GW_IP)]}
    assert worst(run(link(seconds)), "arp_spoof") == "high"


def test_traffic_of_the_owner_proves_that_the_address_did_not_move() -> None:
    late = flow(O_IP, V_IP, src_mac=mac(OTHER), end=(BEGIN + 20) * 10**9)
    seconds: dict[int, dict[str, list[Row]]] = {1: {"link": known()}}
    seconds |= {at: {"link": [arp(BAD, O_IP, O_IP)]} for at in (10, 12, 14)}
    assert worst(run(play(seconds)), "arp_spoof") is None
    seconds |= {20: {"flows": [late]}, 21: {"link": [arp(BAD, O_IP, O_IP)]}}
    assert worst(run(play(seconds)), "arp_spoof") == "medium"


def test_inventory_knows_the_owner() -> None:
    def pod(ip: str) -> InventoryObject:
        return InventoryObject(kind="Pod", uid=ip, name=ip, namespace="shop", ips=(ip,), valid_from=BEGIN - 100)

    seconds = {1: known(), 5: [arp(OTHER, O_IP, V_IP)]} | {at: [arp(BAD, O_IP, O_IP)] for at in (6, 8, 30)}
    seconds |= {7: [arp(OTHER, O_IP, V_IP)], 9: [arp(OTHER, O_IP, V_IP)]}
    plain, named = run(link(seconds)), run(link(seconds), IdentityTable([pod(BAD_IP), pod(O_IP)]))
    assert (worst(plain, "arp_spoof"), worst(named, "arp_spoof")) == ("medium", "high")


MOVE = {at: [arp(7, "10.0.0.50", "10.0.0.50")] for at in (30, 31, 32)}
BENIGN: dict[str, dict[int, list[Row]]] = {
    "the address of a pod that died": {1: known(), 2: [arp(OTHER, "10.0.0.50", GW_IP)]} | MOVE
    | {40: [arp(VICTIM, V_IP, "10.0.0.50"), arp(7, "10.0.0.50", V_IP, reply=True, to=VICTIM)]},
    "failover and back": {1: [*known(), arp(7, "10.0.0.7", V_IP), arp(8, "10.0.0.8", V_IP)]}
    | {10: [arp(8, "10.0.0.50", "10.0.0.50")]} | MOVE | {90: [arp(8, "10.0.0.50", "10.0.0.50")]},
    "a proxy for a network": {1: known()} | {
        at: [arp(VICTIM, V_IP, f"10.9.0.{at}"), arp(7, f"10.9.0.{at}", V_IP, reply=True, to=VICTIM),
             arp(OTHER, O_IP, f"10.9.0.{at}"), arp(7, f"10.9.0.{at}", O_IP, reply=True, to=OTHER)]
        for at in range(2, 40)
    },
    "the proxy of a network plugin": {at: [{**arp(0, ip, V_IP, reply=True, to=VICTIM), "mac": 0xEEEEEEEEEEEE,
                                            "claimed_mac": 0xEEEEEEEEEEEE} for ip in (GW_IP, O_IP)] + known()
                                      for at in range(1, 20)},
    "a virtual router": {1: known()} | {at: [{**pushed("10.0.0.50"), "claimed_mac": 0x00005E000101,
                                             "mac": 0x00005E000101}] for at in range(2, 20)},
    "a bond that balances": {1: known()} | {at: [arp(7 + at % 2, "10.0.0.50", V_IP, reply=True, to=VICTIM)]
                                            for at in range(2, 30)},
    "a bridge with its own hardware address": {
        at: [arp(OTHER, O_IP, V_IP), arp(8, O_IP, V_IP), arp(8, "10.0.0.8", V_IP)] for at in range(1, 20)
    },
    "answers to a node that is not heard": {
        at: [arp(n, f"10.0.0.{n}", GW_IP, reply=True, to=GATEWAY) for n in (2, 3, 9)] for at in range(1, 60, 3)
    },
}  # fmt: skip


@pytest.mark.parametrize("name", BENIGN)
def test_moves_and_proxies_are_silent(name: str) -> None:
    assert worst(run(link(BENIGN[name])), "arp_spoof") in (None, "low")


def test_two_machines_with_one_address_are_told_of_as_such() -> None:
    rows = {at: [arp(7 + at % 2, "10.0.0.50", GW_IP, interface=f"eth{at % 2}")] for at in range(2, 20)}
    alerts = [a for a in run(link({1: known()} | rows)) if a.detector == "arp_spoof"]
    assert {a.severity for a in alerts} == {"low"}
    assert "two machines have one address" in alerts[0].explanation


# --- arp_scan ---


@pytest.mark.parametrize(("count", "expected"), [(10, None), (11, "medium")])
def test_unknown_addresses_at_and_above_the_limit(count: int, expected: str | None) -> None:
    asked = [arp(BAD, BAD_IP, f"10.0.1.{i}") for i in range(count)]
    assert worst(run(link({1: known(), 400: asked})), "arp_scan") == expected


@pytest.mark.parametrize(("count", "expected"), [(100, None), (101, "medium")])
def test_addresses_at_and_above_the_limit_before_anything_is_known(count: int, expected: str | None) -> None:
    assert worst(run(link({1: [arp(BAD, BAD_IP, f"10.0.1.{i}") for i in range(count)]})), "arp_scan") == expected


def test_asking_for_the_same_addresses_again_is_no_scan() -> None:
    asked = [arp(BAD, BAD_IP, f"10.0.1.{i}") for i in range(30)]
    assert worst(run(link(dict.fromkeys((1, 200, 400, 600), asked))), "arp_scan") is None


# --- dhcp_starvation, rogue_dhcp ---


@pytest.mark.parametrize(("count", "expected"), [(8, None), (9, "high")])
def test_clients_of_one_machine(count: int, expected: str | None) -> None:
    asked = [dhcp(LinkClaim.DHCP_DISCOVER, BAD, 100 + i, number=i) for i in range(count)]
    assert worst(run(link({1: asked})), "dhcp_starvation") == expected


def test_who_has_no_address_yet_is_a_client_and_no_relay_and_claims_nothing() -> None:
    asked = [dhcp(LinkClaim.DHCP_DISCOVER, BAD, 100 + i, number=i, speaker="0.0.0.0") for i in range(20)]
    assert worst(run(link({1: asked})), "dhcp_starvation") == "high"
    probes = {at: [arp(n, "0.0.0.0", f"10.0.0.{n}", interface=f"eth{n}") for n in (7, 8)] for at in range(1, 30)}
    assert worst(run(link(probes)), "arp_spoof") is None


@pytest.mark.parametrize(("count", "expected"), [(50, None), (51, "high")])
def test_new_clients_of_a_segment(count: int, expected: str | None) -> None:
    asked = [dhcp(LinkClaim.DHCP_DISCOVER, 100 + i, 100 + i, number=i) for i in range(count)]
    assert worst(run(link({1: asked})), "dhcp_starvation") == expected


def test_inform_takes_no_lease_and_a_relay_speaks_for_others() -> None:
    inform = [dhcp(LinkClaim.DHCP_INFORM, BAD, BAD, lease=f"10.0.1.{i}", speaker=f"10.0.1.{i}") for i in range(30)]
    assert worst(run(link({1: inform})), "dhcp_starvation") == "medium"
    bare = [row | {"claimed": "::"} for row in inform]
    assert worst(run(link({1: bare})), "dhcp_starvation") == "medium"
    relayed = [dhcp(LinkClaim.DHCP_DISCOVER, GATEWAY, 100 + i, speaker=GW_IP, number=i) for i in range(30)]
    assert worst(run(link({1: relayed})), "dhcp_starvation") is None


def offer(server: int, transaction: int = 7) -> Row:
    ip = f"10.0.0.{server}"
    return dhcp(LinkClaim.DHCP_OFFER, server, VICTIM, lease="10.0.1.5", speaker=ip, number=transaction)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({1: [offer(1)], 60: [offer(1, 8), offer(9, 8)]}, "high"),
        ({1: [offer(1)], 60: [offer(9, 8)]}, "medium"),
        ({1: [offer(1)], 900: [offer(9, 8)]}, "low"),
        ({1: [offer(1)], 60: [offer(1, 8) | {"mac": mac(8)}]}, "low"),
        ({1: [offer(1), offer(9)], 60: [offer(1, 8), offer(9, 8)]}, "low"),
        ({1: [offer(1)], 60: [offer(1, 8)], 120: [offer(1, 9)]}, None),
    ],
)
def test_a_second_dhcp_server(seconds: dict[int, list[Row]], expected: str | None) -> None:
    alerts = run(link(seconds))
    assert worst(alerts, "rogue_dhcp") == expected
    if expected in ("high", "medium"):
        assert {e.ip for a in alerts if a.detector == "rogue_dhcp" for e in a.attackers} == {BAD_IP}


def test_declared_servers_may() -> None:
    seconds = {1: [offer(1)], 60: [offer(1, 8), offer(9, 8)]}
    assert worst(run(link(seconds), rogue_dhcp={"servers": [BAD_IP, GW_IP]}), "rogue_dhcp") is None
    alerts = run(link(seconds), rogue_dhcp={"servers": [BAD_IP]})
    assert {e.ip for a in alerts if a.detector == "rogue_dhcp" for e in a.attackers} == {GW_IP}


# --- icmp_redirect ---


def redirect(sender: int, speaker: str, gateway: str, destination: str = "203.0.113.5") -> Row:
    row: Row = {"claim": LinkClaim.ICMP_REDIRECT, "mac": mac(sender), "speaker": speaker, "target": gateway}
    return row | {"claimed": destination, "destination_mac": mac(VICTIM)}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (redirect(BAD, GW_IP, BAD_IP), "high"),  # forged, and to itself
        (redirect(BAD, GW_IP, O_IP), "high"),  # the router has another hardware address
        (redirect(GATEWAY, GW_IP, O_IP), "low"),  # what a router does
    ],
)
def test_redirects(row: Row, expected: str) -> None:
    alerts = run(link({1: known(), 5: [row]}))
    assert worst(alerts, "icmp_redirect") == expected


def router(sender: int, *, lifetime: int = 1800, speaker: str = "") -> Row:
    ip = speaker or f"fe80::{sender}"
    row: Row = {"claim": LinkClaim.ROUTER_ADVERTISEMENT, "mac": mac(sender), "claimed_mac": mac(sender)}
    return row | {"claimed": ip, "speaker": ip, "number": lifetime}


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({1: [router(1)], 300: [router(1)], 601: [router(1)]}, None),
        ({1: [router(1)], 30: [router(2)]}, None),
        ({1: [router(1)], 700: [router(BAD)]}, "medium"),
        ({1: known(), 2000: [router(BAD)]}, "medium"),
        ({1: [router(1)], 5: [router(BAD, lifetime=0, speaker="fe80::1")]}, "high"),
        ({1: [router(i) for i in range(1, 8)]}, "high"),
    ],
)
def test_router_advertisements(seconds: dict[int, list[Row]], expected: str | None) -> None:
    assert worst(run(link(seconds)), "icmp_redirect") == expected


def neighbour(sender: int, claimed: str, told: str, to: int) -> Row:
    row = arp(sender, claimed, told, to=to)
    return row | {"claim": LinkClaim.NEIGHBOUR_ADVERTISEMENT, "speaker": claimed}


def test_unasked_neighbour_advertisements_beside_the_owner() -> None:
    asked = arp(VICTIM, "fd00::2", "fd00::3") | {"claim": LinkClaim.NEIGHBOUR_SOLICITATION}
    owner = neighbour(OTHER, "fd00::3", "fd00::2", VICTIM)
    quiet = {at: [asked, owner] for at in range(1, 20, 3)}
    assert worst(run(link(quiet)), "icmp_redirect") is None
    false = {at: [neighbour(BAD, "fd00::3", "fd00::2", VICTIM)] for at in range(30, 50, 2)}
    assert worst(run(link(quiet | false | {at: [asked, owner] for at in (33, 37, 41)})), "icmp_redirect") == "high"


# --- tls_certificate_change ---


def shown(*pairs: tuple[int, str], server: str = "10.0.0.7") -> list[EventMessage]:
    by_second: dict[int, list[Row]] = {}
    for at, issuer in pairs:
        by_second.setdefault(at, []).append(certificate(server, issuer))
    return play({at: {"tls": rows} for at, rows in by_second.items()})


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(1, "R3"), (30, "R3"), (90, "mitmproxy")], "high"),
        ([(1, "Shop CA"), (90, "mitmproxy")], "high"),
        ([(1, "R3"), (90, "R10"), (200, "E5")], None),
        ([(1, "Shop CA 1"), (90, "Shop CA 2")], None),
        ([(1, "Shop CA"), (90, "R3")], "low"),
        ([(1, "GTS CA 1C3"), (90, "WR2")], None),
        ([(at, ("Shop CA", "Old CA")[at % 2]) for at in range(1, 30)] + [(90, "Third CA")], None),
        ([(1, "Shop CA"), (20, "Old CA")], None),
    ],
)
def test_authorities(pairs: list[tuple[int, str]], expected: str | None) -> None:
    assert worst(run(shown(*pairs)), "tls_certificate_change") == expected


# --- promiscuous_interface, packet_socket ---


@pytest.mark.parametrize(
    ("claim", "more", "expected"),
    [
        (LinkClaim.PROMISCUOUS, {"interface": "eth0", "claimed": BAD_IP}, "medium"),
        (LinkClaim.PROMISCUOUS, {"interface": "eth1"}, "medium"),
        (LinkClaim.PROMISCUOUS, {"interface": "veth12ab"}, None),
        (LinkClaim.PROMISCUOUS, {"interface": "veth12ab", "claimed": BAD_IP}, "medium"),
        (LinkClaim.PACKET_SOCKET, {"text": "tcpdump", "interface": "eth0"}, "medium"),
        (LinkClaim.PACKET_SOCKET, {"text": "dhclient", "interface": "eth0"}, None),
        (LinkClaim.PACKET_SOCKET, {"text": "dhclient", "interface": "eth0", "claimed": BAD_IP}, "medium"),
        (LinkClaim.PACKET_SOCKET, {"text": "sluicegate exporter", "claimed": BAD_IP}, None),
    ],
)
def test_host_claims(claim: int, more: Row, expected: str | None) -> None:
    detector = "promiscuous_interface" if claim == LinkClaim.PROMISCUOUS else "packet_socket"
    assert worst(run(link({1: [{"claim": claim, "mac": mac(BAD)} | more]})), detector) == expected


def test_every_spoofer_of_one_address_is_named_one_after_the_other_and_at_once() -> None:
    """The first one, silent by then, has most signs against it; the owner, who answers all the time, is never named."""
    spoofers = range(20, 26)
    owner = {at: [*known(), arp(GATEWAY, GW_IP, V_IP)] for at in range(1, 400, 7)}
    rows: dict[int, list[Row]] = {at: list(said) for at, said in owner.items()}
    for number, spoofer in enumerate(spoofers):
        for at in range(20 + 40 * number, 48 + 40 * number, 2):
            claim = arp(spoofer, GW_IP, V_IP, reply=True, to=VICTIM)
            rows[at] = [*rows.get(at, []), claim, arp(spoofer, f"10.0.0.{spoofer}", V_IP)]
    together = [arp(n, GW_IP, V_IP, reply=True, to=VICTIM) for n in (24, 25)]
    rows |= {at: [*rows.get(at, []), *together] for at in range(300, 320, 2)}
    found = findings("arp_spoof", link(rows))
    named = {e.mac for f in found for e in f.attackers}
    assert named == {f"02:00:00:00:00:{spoofer:02x}" for spoofer in spoofers}
    last = {e.mac for f in found if f.tick == BEGIN + 318 for e in f.attackers}
    assert last == {"02:00:00:00:00:18", "02:00:00:00:00:19"}


def test_a_pod_that_claims_its_own_address_by_its_own_interface_is_never_an_impostor() -> None:
    def pod(ip: str, veth: str) -> InventoryObject:
        return InventoryObject(kind="Pod", uid=ip, name=ip, namespace="shop", ips=(ip,), node="node1", interface=veth)

    seconds = {1: known()} | {at: [arp(OTHER, O_IP, V_IP, reply=True, to=VICTIM, interface="veth-o")]
                              for at in range(5, 30, 2)}  # fmt: skip
    seconds |= {at: [arp(BAD, O_IP, V_IP, interface="veth-b")] for at in range(4, 30, 2)}
    plain = run(link(seconds))
    assert "02:00:00:00:00:03" in {e.mac for a in plain if a.detector == "arp_spoof" for e in a.attackers}
    named = run(link(seconds), IdentityTable([pod(O_IP, "veth-o"), pod(BAD_IP, "veth-b")]))
    assert {e.pod for a in named if a.detector == "arp_spoof" for e in a.attackers} == {BAD_IP}
