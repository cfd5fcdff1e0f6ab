"""What detectors that follow claims must keep: any rounds, snapshots, and bounded memory under a flood of claims."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

import pytest

from detectors.base import Detector
from detectors.detect import DetectEngine
from detectors.registry import build_detectors
from detectors.settings import EngineSettings
from detectors.snapshot import encode_state
from schemas.event_codec import EventMessage
from schemas.events import FlowMark, LinkClaim, PayloadSide, Verdict
from schemas.finding import Finding
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from schemas.policy.networkpolicy import PolicySpec
from tests.event_rows import (
    BEGIN,
    CLOSED,
    CONVERSATION,
    OPENED,
    REFUSED,
    Node,
    Row,
    arp,
    certificate,
    dhcp,
    flow,
    mac,
    query,
)
from tests.snapshots import copied

# What stage 2 judges is told in the end by the other stage; these say it themselves.
OBSERVERS = sorted(
    d.meta.id for d in build_detectors() if type(d).observe is not Detector.observe and d.meta.stage == 1
)
SECONDS = 90
BAD, VICTIM, GATEWAY = 9, 2, 1


WEB_POD = "10.0.0.66"
PROTECTED = InventoryObject(
    kind="Pod", uid="pod", name="pod", ips=("10.0.0.70",), labels={"sluicegate.io/mtls-ports": "all"}
)

SERVICE = InventoryObject(
    kind="Service", uid="s", namespace="shop", name="api", ips=("10.96.0.9",), selector={"app": "api"}
)
POLICY = InventoryObject(
    kind="NetworkPolicy", uid="n", namespace="shop", name="stay", policy=PolicySpec(policy_types=("Egress",))
)


def engine() -> DetectEngine:
    pod = InventoryObject(kind="Pod", uid="w", namespace="shop", name="w", ips=(WEB_POD,), workload="Deployment/web")
    # What takes a day by default takes seconds here.
    quick = {"strobe": {"connections": 20}, "new_external_destination": {"learning": 30}}
    return DetectEngine(0, EngineSettings(), build_detectors(quick), IdentityTable([pod, PROTECTED, SERVICE, POLICY]))


def findings(messages: Sequence[EventMessage], batch: int, part: DetectEngine | None = None) -> list[Finding]:
    part = part or engine()
    out = []
    for start in range(0, len(messages), batch):
        for tick in part.feed(messages[start : start + batch]).ticks:
            out += tick.findings
    return sorted(out, key=lambda f: (f.node, f.tick, f.detector, f.subject))


def attacks(at: int) -> list[Row]:
    """The link rows of one second in which everything happens."""
    spoof = arp(BAD, "10.0.0.1", "10.0.0.2", reply=True, to=VICTIM)
    rows = [arp(VICTIM, "10.0.0.2", "10.0.0.9"), arp(GATEWAY, "10.0.0.1", "10.0.0.3")] if at % 3 == 0 else []
    rows += [spoof, arp(BAD, "10.0.0.9", "10.0.0.2")] if at > 40 else []
    rows += [arp(BAD, "10.0.0.9", f"10.0.{i}.{at}") for i in range(60)] if at > 60 else []
    server = 7 if at < 50 or at % 2 else BAD
    rows.append(dhcp(LinkClaim.DHCP_OFFER, server, VICTIM, speaker=f"10.0.0.{server}", number=at // 2))
    rows += [dhcp(LinkClaim.DHCP_DISCOVER, BAD, 1000 + at, number=at)]
    redirect = {"claim": LinkClaim.ICMP_REDIRECT, "mac": mac(BAD), "speaker": "10.0.0.1", "target": "10.0.0.9"}
    rows.append(redirect | {"claimed": "203.0.113.5"})
    rows.append({"claim": LinkClaim.PROMISCUOUS, "mac": mac(BAD), "interface": "eth0", "claimed": "10.0.0.9"})
    rows.append({"claim": LinkClaim.PACKET_SOCKET, "mac": mac(BAD), "text": "sniff", "interface": "eth0"})
    return rows


def answers(at: int) -> list[Row]:
    asked = query("10.0.0.2", "a.example", record_type=1, record_data="192.0.2.1", id=at, client_port=4000)
    asked |= {"time": (BEGIN + at) * 10**9, "flags": 0x8180}
    second = asked | {"record_data": f"192.0.2.{1 + at % 2}", "answer_number": 2, "query_bytes": 0}
    lies = query("10.0.0.2", f"n{at}.invalid", record_type=1, record_data="203.0.113.66", id=at, client_port=4001)
    name = query("10.0.0.8", f"cdn{at}.vendor.example", record_type=1, record_data=f"198.51.{at // 40}.9", id=at)
    walk = query("10.0.0.9", f"{at}.0.96.10.in-addr.arpa", qtype=12, rcode=3, id=at, client_port=4002)
    return [asked, second, lies | {"time": (BEGIN + at) * 10**9, "flags": 0x8180}, walk, name]


def leaks(at: int) -> list[Row]:
    """The flow rows of one second in which data leaves, in several ways."""
    times = {"start": (BEGIN + at - 1) * 10**9, "end": (BEGIN + at) * 10**9}
    upload = flow("10.0.0.9", "203.0.113.9", 443, marks=0, src_bytes=4_000_000, dst_bytes=9_000) | times
    echoes = flow("10.0.0.9", "203.0.113.8", 0, marks=0, proto=1, icmp_type=8, src_packets=9, dst_packets=9) | times
    echoes |= {"src_bytes": 900, "dst_bytes": 9_000}
    telnet = flow("10.0.0.9", f"10.0.0.{at}", 23, marks=int(FlowMark.EXCHANGED)) | times
    held = flow("10.0.0.9", "203.0.113.22", 22, marks=0, dst_packets=1, direction_known=True) | times
    held |= {"conn_start": (BEGIN + at - 5 * 3600) * 10**9}
    denied = flow("10.0.0.9", f"10.0.0.{at}", 443, verdict=Verdict.DENIED) | times
    past_the_mesh = flow("10.0.0.9", "10.0.0.70", 81, marks=int(FlowMark.EXCHANGED)) | times
    return [upload, echoes, telnet, held, denied, past_the_mesh]


def logins(at: int) -> list[Row]:
    """A guess each second, a machine that is reached by SSH and goes on, a pod that asks for the cloud's metadata."""
    end = (BEGIN + at) * 10**9
    guess = flow("10.0.0.9", "10.0.0.7", 22, marks=CONVERSATION | CLOSED, end=end, conn_start=end - 3 * 10**9)
    guess |= {"total_src_payload": 2500, "total_dst_payload": 2400, "first_payload": PayloadSide.RESPONDER}
    onwards = flow("10.0.0.7", f"10.0.0.{20 + at % 10}", 22, marks=CONVERSATION)
    denied = flow(WEB_POD, "10.0.0.70", 5432, marks=CONVERSATION)
    return [guess, onwards, denied, flow(WEB_POD, "169.254.169.254", 80, marks=CONVERSATION)]


def stored(part: DetectEngine) -> dict[str, bytes]:
    return {name: encode_state(section.state) for name, section in part.snapshot().items()}


def heads(at: int) -> list[Row]:
    head = {"src": "10.0.0.9", "dst": "10.0.0.80", "src_port": 2000 + at, "dst_port": 80, "head_complete": False}
    false = {"src": "10.0.0.9", "dst": WEB_POD, "dst_port": 80, "host": "api.shop.svc", "status": 200, "flow_id": 1}
    return [false | {"head_complete": True}, *(head | {"flow_id": 3 * at + i} for i in range(3))]


def calls(at: int) -> list[Row]:
    """A beacon every other second, a shell that was given away, and a new destination now and then."""
    began = {"conn_start": (BEGIN + at) * 10**9, "dst_bytes": 200}
    shell = {"first_payload": PayloadSide.RESPONDER, "direction_known": True, "src_payload": 9, "dst_payload": 9}
    return [
        *([flow("10.0.0.9", "203.0.113.7", 443, **began)] if at % 2 else []),
        flow("10.0.0.9", "203.0.113.8", 4444, marks=0, bursts=1, **shell),
        flow("10.0.0.8", f"198.51.{at // 20}.9" if at > 20 else "10.0.0.2", marks=CONVERSATION),
    ]


@cache
def storm() -> tuple[EventMessage, ...]:
    """Two nodes' logs, one a second behind the other in places, so that rounds hold now one and now both."""
    nodes = [Node("node1"), Node("node2")]
    out: list[EventMessage] = []
    for at in range(1, SECONDS):
        for number, node in enumerate(nodes):
            shows = certificate("10.0.0.7", "Shop CA" if at < 75 else "mitmproxy")
            used = flow("10.0.0.1", "10.0.0.2", src_mac=mac(GATEWAY), end=(BEGIN + at) * 10**9)
            message = node.second(
                at,
                link=attacks(at),
                dns=answers(at),
                tls=[shows],
                flows=[used, *logins(at), *leaks(at), *calls(at)],
                http=heads(at),
            )
            out.insert(len(out) - (number and at % 4 == 0), message)
    # One port in five minutes, by a third node, so that the others' claims keep their pace.
    slow = Node("node3")
    tries = [flow("10.0.0.9", "10.0.0.7", 1000 + n, marks=OPENED | REFUSED) for n in range(15)]
    return (*out, *(slow.second(1 + 300 * n, flows=[row]) for n, row in enumerate(tries)))


def test_there_are_observers_and_the_storm_is_seen_by_all() -> None:
    assert len(OBSERVERS) >= 15
    assert set(OBSERVERS) <= {f.detector for f in findings(storm(), 16)}


@pytest.mark.parametrize("batch", [1, 3, 50, 1000])
def test_rounds_change_nothing(batch: int) -> None:
    assert findings(storm(), batch) == findings(storm(), 16)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7, 0.95])
def test_a_snapshot_between_two_seconds_changes_nothing(share: float) -> None:
    middle = int(len(storm()) * share)
    first, second = engine(), engine()
    before = findings(storm()[:middle], 8, first)
    second.restore(copied(first.snapshot()))
    assert stored(second) == stored(first)
    after = findings(storm()[middle:], 8, second)
    expected = findings(storm(), 1)
    assert sorted(before + after, key=lambda f: (f.node, f.tick, f.detector, f.subject)) == expected


def random_claims(chance: random.Random, count: int) -> list[Row]:
    claims = [c for name, c in vars(LinkClaim).items() if not name.startswith("_")]
    return [
        {
            "claim": chance.choice(claims), "mac": mac(chance.getrandbits(32)),
            "claimed_mac": mac(chance.getrandbits(32)), "destination_mac": mac(chance.getrandbits(32)),
            "claimed": f"10.{chance.randrange(256)}.{i % 256}.9", "target": f"10.1.{i >> 8}.{i & 255}",
            "speaker": f"10.2.{i >> 8}.{i & 255}", "number": chance.getrandbits(32), "text": f"owner{i}",
            "interface": f"veth{i % 50}",
        }
        for i in range(count)
    ]  # fmt: skip


def random_answers(chance: random.Random, count: int) -> list[Row]:
    return [
        query(f"10.3.{i >> 8}.{i & 255}", f"n{chance.getrandbits(40)}.example", id=chance.getrandbits(16),
              client_port=chance.randrange(1024, 65536), unsolicited=chance.random() < 0.5,
              query_bytes=40 * chance.randrange(2))
        for i in range(count)
    ]  # fmt: skip


def test_a_flood_of_claims_is_bounded_said_and_hides_nothing_that_was_known() -> None:
    """Memory stops growing, what was too much is counted, and a spoofed address known before is still found."""
    chance, node, part = random.Random(5), Node(), engine()
    known = [
        arp(VICTIM, "10.0.0.2", "10.0.0.9"),
        arp(BAD, "10.0.0.9", "10.0.0.2"),
        arp(GATEWAY, "10.0.0.1", "10.0.0.2"),
    ]
    found = findings([node.second(at, link=known) for at in (1, 2)], 1, part)
    sizes = []
    for at in range(3, 13):
        shows = [certificate(f"10.5.{i >> 8}.{i & 255}", f"ca{i}", name=f"s{at}-{i}.example") for i in range(3000)]
        spoof = [*known, arp(BAD, "10.0.0.1", "10.0.0.2", reply=True, to=VICTIM)]
        rows = [*spoof, *random_claims(chance, 6000)]
        found += findings([node.second(at, link=rows, dns=random_answers(chance, 6000), tls=shows)], 1, part)
        kept = part.snapshot()
        sizes.append(sum(len(encode_state(kept[f"detector.{name}"].state)) for name in OBSERVERS))
    assert sizes[-1] < 12_000_000
    assert sizes[-1] < 1.5 * sizes[4]
    assert {"state_shed", "arp_spoof"} <= {f.detector for f in found}
    impostors = {a.mac for f in found if f.detector == "arp_spoof" and f.severity == "high" for a in f.attackers}
    assert impostors == {"02:00:00:00:00:09"}


@pytest.mark.parametrize("kind", ["link", "dns", "tls"])
def test_one_row_of_each_kind_is_silent(kind: str) -> None:
    rows = {
        "link": [arp(VICTIM, "10.0.0.2", "10.0.0.1"), dhcp(LinkClaim.DHCP_DISCOVER, VICTIM, VICTIM),
                 dhcp(LinkClaim.DHCP_OFFER, 7, VICTIM, speaker="10.0.0.7")],
        "dns": answers(2)[:1],
        "tls": [certificate("10.0.0.7", "Shop CA")],
    }[kind]  # fmt: skip
    for row in rows:
        assert findings([Node().second(1, **{kind: [row]})], 1) == []
