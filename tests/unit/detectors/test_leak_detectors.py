"""Uploads, echoes, logins in clear and doors that policy keeps shut, second by second."""

from __future__ import annotations

from typing import Any

import pytest

from detectors.detect import DetectEngine
from detectors.recent_sums import add_recent
from detectors.registry import build_detectors
from detectors.settings import EngineSettings
from detectors.snapshot import encode_state
from schemas.events import FlowMark
from schemas.finding import Finding
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from tests.event_rows import BEGIN, CONVERSATION, ICMP, Node, Row, flow
from tests.unit.detectors.one_detector import pod, run

POD, FAR = "10.0.0.5", "203.0.113.9"
EXCHANGED = int(FlowMark.EXCHANGED)
MEGABYTE = 1_000_000


def sent(at: int, out: int, back: int = 0, src: str = POD, dst: str = FAR, span: int = 1) -> Row:
    times = {"start": (BEGIN + at - span) * 10**9, "end": (BEGIN + at) * 10**9}
    return flow(src, dst, 443, marks=0, src_bytes=out, dst_bytes=back, src_packets=out // 1400, **times)


class TestExfiltration:
    def uploads(self, *amounts: tuple[int, int, int], **more: Any) -> list[Finding]:
        """Findings for (second, bytes out, bytes back)."""
        node = Node()
        return run("exfiltration", [node.second(at, flows=[sent(at, o, b, **more)]) for at, o, b in amounts])

    def test_the_limit_of_a_first_day_is_absolute_and_fires_above_it(self) -> None:
        assert self.uploads((1, 100 * MEGABYTE, 0)) == []
        (found,) = self.uploads((1, 60 * MEGABYTE, 1000), (5, 40 * MEGABYTE + 1, 1000))
        assert (found.severity, found.evidence[0].value) == ("medium", 100 * MEGABYTE + 1)
        assert found.attackers[0].ip == POD
        assert found.victims[0].ip == FAR

    def test_what_goes_both_ways_is_no_leak(self) -> None:
        assert self.uploads((1, 400 * MEGABYTE, 100 * MEGABYTE)) == []
        assert self.uploads((1, 401 * MEGABYTE, 100 * MEGABYTE)) != []

    def test_volume_older_than_the_window_is_forgotten(self) -> None:
        assert self.uploads((1, 90 * MEGABYTE, 0), (3700, 90 * MEGABYTE, 0)) == []

    def test_a_row_that_spans_many_hours_counts_by_its_share_of_the_window(self) -> None:
        assert self.uploads((40_000, 500 * MEGABYTE, 0), span=36_000) == []
        assert self.uploads((40_000, 500 * MEGABYTE, 0), span=3_600) != []

    @pytest.mark.parametrize("inside", ["10.1.2.3", "192.168.4.4", "fd00::9", "224.0.0.9", "169.254.3.3", "fe80::1"])
    def test_neighbours_may_have_it(self, inside: str) -> None:
        assert self.uploads((1, 900 * MEGABYTE, 0), dst=inside) == []

    def test_a_public_range_that_the_inventory_calls_internal_is_inside(self) -> None:
        ours = InventoryObject(kind="Range", uid="r", name="r", ips=("203.0.113.0/24",), role="internal")
        messages = [Node().second(1, flows=[sent(1, 900 * MEGABYTE)])]
        assert run("exfiltration", messages, [ours]) == []
        assert run("exfiltration", messages) != []

    def nightly(self, *nights: int) -> list[Finding]:
        """Findings for one upload a night, in MB; tiny ones in between keep the node going."""
        node, out = Node(), []
        for night, amount in enumerate(nights):
            out.append(node.second(night * 86_400 + 10, flows=[sent(night * 86_400 + 10, amount * MEGABYTE)]))
        return run("exfiltration", out)

    def test_a_nightly_backup_is_a_habit(self) -> None:
        assert self.nightly(90, 95, 300, 280, 350) == []

    def test_a_known_workload_is_held_to_its_own_habit(self) -> None:
        (found,) = self.nightly(2, 2, 2, 25)
        assert (found.severity, found.evidence[0].limit) == ("high", 20 * MEGABYTE)
        (found,) = self.nightly(40, 40, 40, 170)
        assert found.evidence[0].limit == 160 * MEGABYTE

    def test_the_ramp_that_is_caught_and_the_one_that_is_not(self) -> None:
        """What the page states: tenfold within a week is the edge, in steps of any size."""
        assert self.nightly(*(int(10 * 1.35**n) for n in range(21))) == []
        assert self.nightly(*(int(10 * 1.45**n) for n in range(14))) != []
        (found,) = self.nightly(*(int(10 * 3**n) for n in range(4)))
        assert (found.evidence[0].value, found.evidence[0].limit) == (270 * MEGABYTE, 100 * MEGABYTE)

    def test_what_was_told_is_a_habit_although_it_rose(self) -> None:
        """A job that began in the week is told on the day it began, and not on each day that it runs."""
        assert len(self.nightly(1, 1, 25, 25, 30, 28, 25, 30)) == 1

    def test_replicas_share_the_habit_of_their_workload(self) -> None:
        replicas = [pod(f"p{n}", f"10.0.0.{n}", "Deployment/ship") for n in (5, 6)]
        node = Node()
        messages = [node.second(10, flows=[sent(10, 90 * MEGABYTE)])]
        messages.append(node.second(90_000, flows=[sent(90_000, 90 * MEGABYTE, src="10.0.0.6")]))
        assert run("exfiltration", messages, replicas) == []

    def test_a_node_is_many(self) -> None:
        node = InventoryObject(kind="Node", uid="n", name="n", ips=(POD,))
        (found,) = run("exfiltration", [Node().second(1, flows=[sent(1, 900 * MEGABYTE)])], [node])
        assert found.severity == "low"

    def test_memory_is_bounded_and_what_is_left_out_is_counted(self) -> None:
        (detector,) = (d for d in build_detectors() if d.meta.id == "exfiltration")
        engine = DetectEngine(0, EngineSettings(), [detector], IdentityTable())
        node, sizes = Node(), []
        for at in range(1, 12):
            rows = [sent(at, 20_000, src=f"10.{at}.{i >> 8}.{i & 255}") for i in range(3000)]
            engine.feed([node.second(at, flows=rows)])
            sizes.append(len(encode_state(engine.snapshot()["detector.exfiltration"].state)))
        assert sizes[-1] == pytest.approx(sizes[5], rel=0.05)
        assert sum(detector.refused().values()) > 2000


def echoes(at: int, asked: tuple[int, int], answered: tuple[int, int], dst: str = FAR) -> Row:
    """Echoes: (packets, bytes) there and back."""
    return flow(POD, dst, 0, marks=0, proto=ICMP, icmp_type=8, src_packets=asked[0], src_bytes=asked[1],
                dst_packets=answered[0], dst_bytes=answered[1], end=(BEGIN + at) * 10**9)  # fmt: skip


class TestIcmpTunnel:
    def found(self, *rows: Row) -> list[Finding]:
        node = Node()
        return run("icmp_tunnel", [node.second(at, flows=[row]) for at, row in enumerate(rows, start=1)])

    @pytest.mark.parametrize(
        ("asked", "answered"),
        [
            ((60, 60 * 84), (60, 60 * 84)),  # ping
            ((60, 60 * 84), (40, 40 * 84)),  # with losses
            ((300, 300 * 1428), (300, 300 * 1428)),  # ping -s 1400 -i 0.2
            ((40, 20 * 84 + 20 * 9000), (20, 20 * 84)),  # a search for the MTU: the large ones are lost
            ((60, 60 * 84), (120, 120 * 84)),  # answers seen twice
            ((0, 0), (60, 60 * 1000)),  # only one direction is seen
            ((900, 900 * 1000), (0, 0)),  # nobody there
        ],
    )
    def test_pings_are_silent(self, asked: tuple[int, int], answered: tuple[int, int]) -> None:
        assert self.found(echoes(1, asked, answered)) == []

    @pytest.mark.parametrize(
        ("asked", "answered"),
        [
            ((30, 30 * 84), (30, 30 * 400)),  # answers bring more than was asked
            ((30, 30 * 400), (30, 30 * 84)),  # every question is answered, by less
            ((30, 30 * 84), (90, 90 * 1052)),  # answers that nobody asked for
            ((40, 40 * 60), (30, 30 * 500)),  # fewer answers, more bytes
        ],
    )
    def test_what_is_no_echo_is_a_tunnel(self, asked: tuple[int, int], answered: tuple[int, int]) -> None:
        (found,) = self.found(echoes(1, asked, answered))
        assert found.severity == "high"
        assert (found.attackers[0].ip, found.victims[0].ip) == (POD, FAR)

    def test_the_limit_is_exact(self) -> None:
        assert self.found(echoes(1, (10, 1000), (10, 5000))) == []
        assert self.found(echoes(1, (10, 1000), (10, 5001))) != []

    def test_rows_of_a_minute_add_up(self) -> None:
        rows = [echoes(at, (2, 168), (2, 1168)) for at in range(1, 6)]
        assert self.found(*rows[:4]) == []
        assert len(self.found(*rows)) == 1

    def test_mirrored_volume_to_the_outside_is_medium(self) -> None:
        big = (500, 513_000)
        (found,) = self.found(echoes(1, big, big))
        assert found.severity == "medium"
        assert self.found(echoes(1, big, big, dst="10.0.0.8")) == []

    def test_a_flood_is_left_to_its_detector(self) -> None:
        many = (40_000, 40_000 * 84)
        assert self.found(echoes(1, many, many)) == []


class TestPlaintextSensitive:
    def found(self, *flows: Row, **config: Any) -> list[Finding]:
        return run("plaintext_sensitive", [Node().second(1, flows=flows)], **config)

    @pytest.mark.parametrize(("port", "severity"), [(23, "medium"), (21, "low"), (389, "low"), (6379, "low")])
    def test_protocols_in_clear(self, port: int, severity: str) -> None:
        (found,) = self.found(flow(POD, "10.0.0.8", port, marks=EXCHANGED))
        assert found.severity == severity
        assert f"port {port}" in found.summary

    def test_a_database_outside_is_graver(self) -> None:
        (found,) = self.found(flow(POD, FAR, 6379, marks=EXCHANGED))
        assert found.severity == "medium"

    def test_what_is_no_login_in_clear(self) -> None:
        assert self.found(flow(POD, FAR, 6379, marks=EXCHANGED, app="tls")) == []
        assert self.found(flow(POD, FAR, 23, marks=CONVERSATION & ~EXCHANGED)) == []
        assert self.found(flow(POD, FAR, 23, marks=EXCHANGED, proto=17)) == []
        assert self.found(flow(POD, FAR, 80, marks=EXCHANGED)) == []
        assert self.found(flow(POD, FAR, 23, marks=EXCHANGED, copy=True)) == []

    def test_requests_with_credentials(self) -> None:
        row: Row = {"src": POD, "dst": FAR, "src_port": 40000, "dst_port": 80, "method": "GET", "credentials": True}
        (found,) = run("plaintext_sensitive", [Node().second(1, http=[row, row])])
        assert found.severity == "low"
        assert run("plaintext_sensitive", [Node().second(1, http=[row | {"credentials": False}])]) == []

    def test_once_a_day_and_not_once_a_connection(self) -> None:
        node, row = Node(), flow(POD, FAR, 23, marks=EXCHANGED)
        seconds = (1, 2, 3600, 86_000, 86_401, 86_402)
        found = run("plaintext_sensitive", [node.second(at, flows=[row]) for at in seconds])
        assert [f.tick - BEGIN for f in found] == [1, 86_401]

    def test_ports_are_settings(self) -> None:
        row = flow(POD, FAR, 2323, marks=EXCHANGED)
        assert self.found(row) == []
        assert len(self.found(row, clear={"Telnet": 2323})) == 1


def test_recent_sums_hold_a_window_to_a_twelfth() -> None:
    buckets: list[list[int]] = []
    assert add_recent(buckets, 1200, 120, (1, 10)) == [1, 10]
    assert add_recent(buckets, 1205, 120, (1, 10)) == [2, 20]
    assert add_recent(buckets, 1319, 120, (1, 0)) == [3, 20]
    assert add_recent(buckets, 1320, 120, (0, 0)) == [1, 0]
    assert len(buckets) == 2
