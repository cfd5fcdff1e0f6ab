"""The lab comes up, its pods talk, a recording holds each packet once, and nothing is left behind."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.lab import pods
from tests.lab.capture import Capture
from tests.lab.frames import ends
from tests.lab.lab import Lab, leftovers, missing
from tests.lab.pcapng import Packet

pytestmark = [pytest.mark.lab, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

WEB, ATTACKER = pods.BY_NAME["web"], pods.BY_NAME["attacker"]
PINGS = 5
ICMP, ICMPV6 = 1, 58


def namespaces() -> str:
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(("web", "attacker")) as running:
        yield running


@pytest.fixture(scope="module")
def packets(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> list[Packet]:
    with Capture(lab, tmp_path_factory.mktemp("lab") / "capture.pcapng") as capture:
        for where, address in (
            ("attacker", WEB.ip4),
            ("attacker", WEB.ip6),
            ("attacker", pods.OUTSIDE4),
            (pods.OUTSIDE, WEB.ip4),
        ):
            lab.run(where, ["ping", "-q", "-c", str(PINGS), "-i", "0.05", address])
    return capture.packets()


def test_every_packet_once_where_it_entered(packets: list[Packet]) -> None:
    found = ((p.interface, ends(p.data)) for p in packets)
    seen = Counter((where, e.src, e.dst) for where, e in found if e is not None and e.proto == ICMP)
    assert seen == {
        ("veth-attacker", ATTACKER.ip4, WEB.ip4): PINGS,
        ("veth-web", WEB.ip4, ATTACKER.ip4): PINGS,
        ("veth-attacker", ATTACKER.ip4, pods.OUTSIDE4): PINGS,
        ("eth0", pods.OUTSIDE4, ATTACKER.ip4): PINGS,
        ("eth0", pods.OUTSIDE4, WEB.ip4): PINGS,
        ("veth-web", WEB.ip4, pods.OUTSIDE4): PINGS,
    }


def test_ipv6_between_pods(packets: list[Packet]) -> None:
    found = [e for p in packets if (e := ends(p.data)) is not None and e.proto == ICMPV6]
    pinged = Counter((e.src, e.dst) for e in found if {e.src, e.dst} == {ATTACKER.ip6, WEB.ip6})
    # Neighbour discovery goes between the same two addresses.
    assert all(pinged[pair] >= PINGS for pair in ((ATTACKER.ip6, WEB.ip6), (WEB.ip6, ATTACKER.ip6)))


def test_packets_are_in_order_of_time(packets: list[Packet]) -> None:
    times = [packet.time_ns for packet in packets]
    assert times == sorted(times)
    assert times


def test_a_pod_cannot_leave_the_lab(lab: Lab) -> None:
    own = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    assert "veth-attacker" not in own
    with pytest.raises(RuntimeError, match="exit 1"):
        lab.run("attacker", ["ping", "-q", "-c", "1", "-W", "1", pods.OUTSIDE_DEAD])


def test_nothing_is_left_behind() -> None:
    with Lab(("web",)) as lab:
        sleeper = lab.start("web", ["sleep", "600"])
        assert all(space in namespaces() for space in lab.spaces)
        spaces = lab.spaces
    assert sleeper.returncode is not None
    assert not any(space in namespaces() for space in spaces)


def test_a_dead_process_leaves_a_lab_that_the_next_one_removes() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    stale = f"sluicelab{child.pid}-0-web"
    subprocess.run(["ip", "netns", "add", stale], check=True)
    assert stale in leftovers()
    with Lab(("web",)):
        assert stale not in namespaces()
