"""Who asks for what there is, at and above each limit; and who asks in vain, or asks much, because it may."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.asked_lately import AskedLately
from detectors.guessed_names import reverse_place
from detectors.recent_elements import KEPT, add_elements
from exporter.sources.capture import read_messages
from schemas.event_codec import EventMessage
from schemas.finding import Finding
from schemas.inventory import InventoryObject
from stream.pipeline import Pipeline
from stream.stages import Parts, PipelineSettings
from tests.event_rows import Node, Row, query
from tests.unit.detectors.one_detector import pod, run

CASES = Path(__file__).parents[2] / "cases" / "service_enumeration"
SEEKER, RESOLVER, WEB = "10.0.0.66", "10.0.0.53", "10.0.0.7"
NXDOMAIN, PTR, AXFR = 3, 12, 252
Rows = Sequence[Row]


def missing(name: str, client: str = SEEKER, **more: Any) -> Row:
    return query(client, name, server=RESOLVER, rcode=NXDOMAIN, **more)


def reverse(number: int, **more: Any) -> Row:
    return missing(f"{number}.0.96.10.in-addr.arpa", qtype=PTR, **more)


def transfer(client: str = SEEKER, **more: Any) -> Row:
    return query(client, "shop.example", server=RESOLVER, qtype=AXFR, transport=6, **more)


def request(path: str, status: int = 404, server: str = WEB, port: int = 80, src: str = SEEKER) -> Row:
    return {"src": src, "dst": server, "src_port": 40000, "dst_port": port, "method": "GET", "path_shape": path,
            "status": status, "head_complete": True}  # fmt: skip


def play(dns: Rows = (), http: Rows = (), at: int = 1, each: int = 0) -> list[EventMessage]:
    """All rows in one second, or ``each`` a second."""
    node, rows = Node(), [*(("dns", r) for r in dns), *(("http", r) for r in http)]
    size = each or max(1, len(rows))
    return [
        node.second(at + second, dns=[r for k, r in part if k == "dns"], http=[r for k, r in part if k == "http"])
        for second, part in enumerate(rows[first : first + size] for first in range(0, len(rows), size))
    ]


def said(
    messages: Sequence[EventMessage], inventory: Sequence[InventoryObject] = (), **config: Any
) -> list[tuple[str, str]]:
    """(way of asking, severity) of what is found, each once, in order."""
    found = run("service_enumeration", messages, inventory, **config)
    return list(dict.fromkeys((f.evidence[0].name, f.severity) for f in found))


class TestZoneTransfers:
    def test_asked_and_got(self) -> None:
        assert said(play([transfer(rcode=5, answer_number=1)])) == [("zone_transfer", "medium")]
        assert said(play([transfer(records=4)])) == [("zone_transfer", "high")]

    def test_a_name_server_that_mirrors_the_zone_is_silent(self) -> None:
        node = Node()
        serves = [query("10.0.0.9", "shop.example", server=SEEKER)]
        assert said([node.second(1, dns=serves), node.second(2, dns=[transfer(records=4)])]) == []

    def test_who_goes_on_for_long_does_it_by_habit(self) -> None:
        node = Node()
        hour = [node.second(1 + 60 * at, dns=[transfer(records=4)]) for at in range(60)]
        found = run("service_enumeration", hour)
        assert [f.tick - found[0].tick for f in found] == [60 * at for at in range(11)]

    def test_replicas_share_the_habit(self) -> None:
        node = Node()
        inventory = [pod("one", SEEKER, "Deployment/mirror"), pod("two", "10.0.0.67", "Deployment/mirror")]
        messages = [node.second(1 + 60 * at, dns=[transfer(records=4)]) for at in range(20)]
        messages.append(node.second(1300, dns=[transfer("10.0.0.67", records=4)]))
        assert {f.attackers[0].ip for f in run("service_enumeration", messages, inventory)} == {SEEKER}


class TestReverseNames:
    @pytest.mark.parametrize(("count", "expected"), [(41, []), (42, [("reverse_walk", "medium")])])
    def test_one_after_the_other_at_and_above_the_limit(self, count: int, expected: list[tuple[str, str]]) -> None:
        """The first address is no step."""
        assert said(play([reverse(n) for n in range(count)])) == expected
        assert said(play([reverse(n) for n in range(count)], each=1)) == expected

    @pytest.mark.parametrize(
        "rows",
        [
            [reverse(n * 97 % 251) for n in range(250)],
            [reverse(n % 20) for n in range(400)],
            [missing(f"{n}-16.2.0.192.in-addr.arpa", qtype=PTR) for n in range(60)],
            [missing("_http._tcp.local", qtype=PTR) for n in range(60)],
            [reverse(n, query_bytes=0) for n in range(60)],
        ],
        ids=["out of order", "the same again", "delegation", "service discovery", "answers alone"],
    )
    def test_what_is_no_walk(self, rows: Rows) -> None:
        assert said(play(rows)) == []

    def test_slower_than_the_window(self) -> None:
        node = Node()
        assert said([node.second(1 + 2 * n, dns=[reverse(n)]) for n in range(100)]) == []

    def test_a_node_is_many(self) -> None:
        node = InventoryObject(kind="Node", uid="n", name="node1", ips=(SEEKER,))
        assert said(play([reverse(n) for n in range(99)]), [node]) == []

    def test_places_of_reverse_names(self) -> None:
        assert reverse_place("7.0.96.10.in-addr.arpa") == ("0.96.10.in-addr.arpa", 7)
        six = ".".join("a" + "0" * 31) + ".ip6.arpa"
        assert reverse_place(six) == (".".join("0" * 30) + ".ip6.arpa", 10)
        assert reverse_place("x.0.96.10.in-addr.arpa") is None
        assert reverse_place("96.10.in-addr.arpa") is None


def service(n: int, rest: str = "shop.svc.cluster.local") -> str:
    return f"guess-{n}.{rest}"


class TestNames:
    @pytest.mark.parametrize(("count", "expected"), [(30, []), (31, [("service_names", "medium")])])
    def test_services_at_and_above_the_limit(self, count: int, expected: list[tuple[str, str]]) -> None:
        assert said(play([missing(service(n)) for n in range(count)])) == expected

    def test_namespaces_count_together(self) -> None:
        assert said(play([missing(service(n, f"ns{n}.svc.cluster.local")) for n in range(31)])) != []

    @pytest.mark.parametrize(("count", "expected"), [(100, []), (101, [("host_names", "medium")])])
    def test_hosts_at_and_above_the_limit(self, count: int, expected: list[tuple[str, str]]) -> None:
        assert said(play([missing(f"host{n}.corp.example") for n in range(count)])) == expected

    @pytest.mark.parametrize(
        "names",
        [
            [f"site{n}.com.svc.cluster.local" for n in range(300)],
            [f"www.site{n}.com.shop.svc.cluster.local" for n in range(300)],
            [f"www.site{n}.com.corp.example" for n in range(300)],
            [f"site{n}.com" for n in range(300)],
            [f"{n}.2.0.192.zen.bl.example" for n in range(250)],
            [f"{n}.bl.example" for n in range(300)],
            [f"{hashlib.md5(bytes([n])).hexdigest()}.hash.example" for n in range(250)],
            [service(n % 30) for n in range(300)],
        ],
        ids=["search", "search 2", "search of a site", "domains", "block list", "numbers", "hashes", "again"],
    )
    def test_names_that_others_ask_for_in_vain(self, names: list[str]) -> None:
        assert said(play([missing(name) for name in names])) == []

    def test_names_that_exist_or_are_not_answered(self) -> None:
        assert said(play([query(SEEKER, service(n)) for n in range(99)])) == []
        assert said(play([missing(service(n)) | {"rcode": -1, "answer_number": 0} for n in range(99)])) == []

    def test_a_resolver_asks_for_others(self) -> None:
        node = Node()
        messages = [node.second(1, dns=[query("10.0.0.9", "a.example", server=SEEKER)]),
                    node.second(2, dns=[missing(service(n)) for n in range(99)])]  # fmt: skip
        assert said(messages) == []


class TestWeb:
    @pytest.mark.parametrize(("count", "expected"), [(150, []), (151, [("web_paths", "medium")])])
    def test_paths_at_and_above_the_limit(self, count: int, expected: list[tuple[str, str]]) -> None:
        rows = [request(f"/word-{n}") for n in range(count)]
        assert said(play(http=rows)) == expected
        assert said(play(http=rows, each=10)) == expected

    @pytest.mark.parametrize("status", [200, 301, 401, 429, 500, 503, 0])
    def test_answers_that_say_something_else(self, status: int) -> None:
        assert said(play(http=[request(f"/word-{n}", status) for n in range(300)])) == []

    def test_one_path_and_many_servers_do_not_add_up_to_paths(self) -> None:
        assert said(play(http=[request("/item/0") for _ in range(300)])) == []
        assert said(play(http=[request(f"/word-{n}", port=80 + n % 4) for n in range(300)])) == []

    @pytest.mark.parametrize(("count", "expected"), [(15, []), (16, [("web_services", "low")])])
    def test_services_at_and_above_the_limit(self, count: int, expected: list[tuple[str, str]]) -> None:
        assert said(play(http=[request("/.git/HEAD", port=8000 + n) for n in range(count)])) == expected

    @staticmethod
    def later(rows: Rows, before: Rows = ()) -> list[EventMessage]:
        node = Node()
        watched = [node.second(1, http=[request("/", 200), *before])]
        return [*watched, node.second(200, http=rows)]

    def test_services_are_graver_when_the_node_is_known(self) -> None:
        rows = [request("/.git/HEAD", server=f"10.0.1.{n}") for n in range(20)]
        assert said(self.later(rows), learning=100) == [("web_services", "medium")]

    def test_services_that_a_prober_always_asked_are_silent(self) -> None:
        rows = [request("/health", server=f"10.0.1.{n}") for n in range(20)]
        messages = self.later(rows, rows)
        assert [f.severity for f in run("service_enumeration", messages, learning=100)] == ["low"]

    def test_pods_that_were_replaced_are_not_new_and_neither_is_a_new_prober(self) -> None:
        inventory = [
            *(pod(f"old{n}", f"10.0.1.{n}", f"Deployment/app{n}") for n in range(20)),
            *(pod(f"new{n}", f"10.0.2.{n}", f"Deployment/app{n}") for n in range(20)),
            pod("prober1", SEEKER, "Deployment/prober"), pod("prober2", "10.0.0.67", "Deployment/prober"),
        ]  # fmt: skip
        before = [request("/health", server=f"10.0.1.{n}") for n in range(20)]
        rows = [request("/health", server=f"10.0.2.{n}", src="10.0.0.67") for n in range(20)]
        found = run("service_enumeration", self.later(rows, before), inventory, learning=100)
        assert [f.attackers[0].ip for f in found] == [SEEKER]

    def test_a_crawler_of_sites_outside_is_no_business_of_ours(self) -> None:
        assert said(play(http=[request("/robots.txt", server=f"203.0.113.{n}") for n in range(60)])) == []


def test_what_is_kept_of_a_search_is_bounded() -> None:
    kept = add_elements([], 100, 60, range(10 * KEPT))
    assert len(kept) == KEPT
    assert add_elements(kept, 160, 60, ()) == []
    assert len(add_elements(add_elements([], 100, 60, (1, 2)), 101, 60, (2, 3))) == 3


@pytest.mark.parametrize("name", ["gobuster_names", "gobuster_paths", "dnsrecon_walk"])
def test_batches_do_not_change_what_is_said(name: str) -> None:
    messages = list(read_messages(CASES / name / "capture.pcapng.gz", "node1", "lab"))

    def alerts(batch: int) -> list[bytes]:
        outputs = Pipeline(Parts(PipelineSettings())).run(messages, batch)
        return [a.encode() for o in outputs for a in o.alerts if a.detector == "service_enumeration"]

    whole = alerts(1000)
    assert whole
    assert alerts(1) == whole


def test_a_finding_explains_itself() -> None:
    found: list[Finding] = run("service_enumeration", play([reverse(n) for n in range(60)]))
    assert found[0].summary == (
        "10.0.0.66 asked for the names of 59 addresses below '0.96.10.in-addr.arpa', one after the other, within 60 s, "
        "limit 40"
    )
    assert found[0].spoofable


@pytest.mark.parametrize("name", ["web.shop.svc", "shop.svc", "web.shop.svc.", "svc", "a.b.c.svc"])
def test_short_names_of_services_are_counted_as_hosts_are(name: str) -> None:
    """A pod that asks a resolver outside for its service's short name asks for no more than a name that is missing."""
    assert said(play([missing(name) for _ in range(3)])) == []
    assert said(play([missing(f"host{n}.shop.svc") for n in range(101)])) == [("host_names", "medium")]


def column(values: Sequence[int], dtype: str = "i8") -> Any:
    return np.array(values, dtype)


@given(
    rounds=st.lists(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 600)), min_size=1, max_size=60), max_size=12),
    restored=st.integers(0, 11),
)
def test_elements_asked_lately_are_what_a_list_of_them_says(rounds: list[list[tuple[int, int]]], restored: int) -> None:
    asked, lists, window = AskedLately(10), dict[int, list[int]](), 10
    for at, pairs in enumerate(rounds):
        tick, keys = 100 + 2 * at, [key for key, _ in pairs]
        counts = asked.add(
            column([7] * len(pairs)),
            column([tick] * len(pairs)),
            column(keys, "u8"),
            column([e for _, e in pairs], "u8"),
        )
        for key, most in zip(keys, counts.tolist(), strict=True):
            lists[key] = add_elements(lists.get(key, []), tick, window, (e for k, e in pairs if k == key))
            assert asked.elements(key, tick) == lists[key]
            assert most >= len(lists[key])
        if at == restored:
            kept, asked = asked.snapshot(), AskedLately(window)
            asked.restore(kept)
            again = asked.snapshot()
            assert all(again[name].tobytes() == values.tobytes() for name, values in kept.items())


def test_what_is_asked_lately_is_bounded() -> None:
    asked, many = AskedLately(10), 3000
    for tick in range(100):
        asked.add(column([0] * many), column([tick] * many), column(range(many), "u8"), column(range(many), "u8"))
        assert len(asked) <= 25 * many
