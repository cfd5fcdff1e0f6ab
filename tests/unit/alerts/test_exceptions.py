from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from alerts.episodes import EpisodeBook
from alerts.exceptions import Exceptions
from schemas.exceptions import AlertException, Selector
from schemas.finding import Endpoint
from tests.unit.alerts.builders import finding

PROMETHEUS = Endpoint(
    ip="10.244.3.7", pod="prometheus-0", namespace="monitoring", workload="StatefulSet/prometheus",
    node="node-3", labels={"app": "prometheus", "tier": "ops"}, identity="known", roles=("monitoring_scraper",),
)  # fmt: skip
SERVICE = Endpoint(ip="10.96.0.10", service="kube-system/kube-dns", namespace="kube-system", identity="known")
NOBODY = Endpoint(ip="203.0.113.9")


def networks(*texts: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


NAMED = {"prometheus": PROMETHEUS, "dns": SERVICE, "nobody": NOBODY, "mac": Endpoint(ip="", mac="02:00:00:00:00:01")}


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        (Selector(namespaces=("monitoring",)), "prometheus"),
        (Selector(namespaces=("mon*", "kube-*")), "prometheus dns"),
        (Selector(workloads=("StatefulSet/prom*",)), "prometheus"),
        (Selector(workloads=("Deployment/*",)), ""),
        (Selector(services=("kube-system/kube-dns",)), "dns"),
        (Selector(pods=("prom*",)), "prometheus"),
        (Selector(pods=("dns",)), ""),
        (Selector(nodes=("node-?",)), "prometheus"),
        (Selector(labels=(("app", "prometheus"),)), "prometheus"),
        (Selector(labels=(("app", "prometheus"), ("tier", "web"))), ""),
        (Selector(cidrs=networks("10.244.0.0/16", "2001:db8::/32")), "prometheus"),
        (Selector(cidrs=networks("0.0.0.0/0")), "prometheus dns nobody"),
        (Selector(roles=("resolver", "monitoring_scraper")), "prometheus"),
        (Selector(namespaces=("monitoring",), cidrs=networks("10.96.0.0/12")), ""),
    ],
)
def test_whom_a_selector_means(selector: Selector, fits: str) -> None:
    assert [name for name, end in NAMED.items() if selector.fits(end)] == fits.split()


SCRAPER = AlertException(
    "scraper", "it reads metrics", Selector(roles=("monitoring_scraper",)), detectors=("host_sweep",), expires=1000
)


def test_findings_are_excepted_and_counted() -> None:
    exceptions = Exceptions([SCRAPER])
    book = EpisodeBook("c1", exceptions=exceptions)
    assert book.observe(100, [finding("host_sweep", attackers=(PROMETHEUS,))]) == []
    (other,) = book.observe(101, [finding("host_sweep", attackers=(PROMETHEUS,)), finding("host_sweep", "x")])
    assert other.subject == "x"
    assert (book.counts.excepted, exceptions.taken(), exceptions.taken()) == (2, {"scraper": 2}, {})


@pytest.mark.parametrize(
    ("fields", "tick"),
    [
        ({"attackers": (PROMETHEUS, NOBODY)}, 100),  # one of them is somebody else
        ({"attackers": ()}, 100),  # nobody is named
        ({"attackers": (PROMETHEUS,), "detector": "port_scan"}, 100),
        ({"attackers": (PROMETHEUS,), "rule": "host_sweep"}, 100),  # a rule's, not the built-in detector's
        ({"attackers": (PROMETHEUS,)}, 1000),  # expired
        ({"attackers": (NOBODY,), "victims": (PROMETHEUS,)}, 100),  # the other side
    ],
)
def test_nothing_else_is_hidden(fields: dict[str, Any], tick: int) -> None:
    book = EpisodeBook("c1", exceptions=Exceptions([SCRAPER]))
    assert len(book.observe(tick, [finding(**{"detector": "host_sweep", **fields})])) == 1


def test_victims_and_rules_can_be_excepted() -> None:
    honeypot = AlertException(
        "pot", "it is there for that", Selector(namespaces=("monitoring",)), "victim", (), ("mine",)
    )
    book = EpisodeBook("c1", exceptions=Exceptions([honeypot]))
    assert book.observe(100, [finding(rule="mine", victims=(PROMETHEUS,))]) == []
    assert len(book.observe(101, [finding(rule="other", victims=(PROMETHEUS,))])) == 1
