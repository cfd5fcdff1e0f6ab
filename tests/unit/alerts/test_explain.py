from __future__ import annotations

import pytest

from alerts.explain import MAX_EXPLANATION, explanation
from alerts.wording import duration, name, number, printable, title
from schemas.finding import DataQuality, Endpoint, Evidence

POD = Endpoint(ip="10.244.1.9", pod="web-1", namespace="shop", identity="known")
SERVICE = Endpoint(ip="10.96.0.10", service="kube-system/dns", namespace="kube-system", identity="known")
NODE = Endpoint(ip="192.0.2.7", node="n1", identity="known")
OUTSIDE = Endpoint(ip="198.51.100.3")
SUMMARY = "1,204 distinct ports on 10.244.1.5 in 300 s, limit 10"


def test_the_sentence_names_pods_values_and_caveats() -> None:
    quality = DataQuality(sampling=100, lost_packets=1204, notes=("TTL is not seen",))
    assert explanation(SUMMARY, [POD, OUTSIDE], [SERVICE], (), quality, True) == (
        "From pod shop/web-1 (10.244.1.9) and 1 more against Service kube-system/dns (10.96.0.10): "
        "1,204 distinct ports on 10.244.1.5 in 300 s, limit 10. Note: the source addresses could be forged; "
        "only one packet in 100 was seen; 1,204 packets were lost before they were read; TTL is not seen."
    )


def test_without_identity_or_doubt_the_summary_stands_alone() -> None:
    assert explanation(f"{SUMMARY}.", [OUTSIDE], [OUTSIDE], (), DataQuality(), False) == f"{SUMMARY}."


def test_without_a_summary_the_evidence_speaks() -> None:
    evidence = (
        Evidence(name="distinct_ports", value=1204, limit=10, unit="ports", window=300),
        Evidence(name="x", value=0.123456),
    )
    assert explanation("", [], [NODE], evidence, DataQuality(), False) == (
        "Against node n1 (192.0.2.7): distinct ports 1,204 ports in 300 s (limit 10); x 0.123."
    )
    assert explanation(" ", [], [], (), DataQuality(), False) == "no values were given."


def test_nothing_a_terminal_acts_on_survives() -> None:
    hostile = "a\x1b[2Jb\r\nc\x85d\u202ee\u2028f\U000e0041g"
    text = explanation(
        hostile,
        [Endpoint(ip="", mac="x\x07", pod="p\x00", identity="known")],
        [],
        (),
        DataQuality(notes=("\t",)),
        False,
    )
    assert text.isprintable()
    assert "a\\x1b[2Jb\\x0d\\x0ac\\x85d\\u202ee\\u2028f\\U000e0041g" in text


def test_the_length_is_bounded() -> None:
    notes = tuple("ü" * 1000 for _ in range(50))
    text = explanation("\x00" * 10_000, [POD], [POD], (), DataQuality(notes=notes), False)
    assert len(text) == MAX_EXPLANATION
    assert text.endswith("…")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1204, "1,204"), (1204.0, "1,204"), (0.0, "0"), (-3, "-3"), (0.12345, "0.123"), (12.345, "12.3"),
        (1234.5, "1,234"), (1e15, "1e+15"), (1e300, "1e+300"),
    ],
)  # fmt: skip
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (12_000, "3 h 20 min")],
)
def test_durations(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def test_names() -> None:
    nameless = (Endpoint(ip="", mac="02:00:00:00:00:01"), Endpoint(ip=""))
    assert [name(e) for e in (POD, SERVICE, NODE, OUTSIDE, *nameless)] == [
        "shop/web-1", "kube-system/dns", "node n1", "198.51.100.3", "02:00:00:00:00:01", "unknown",
    ]  # fmt: skip
    assert [title(OUTSIDE), title(NODE)] == ["198.51.100.3", "node n1 (192.0.2.7)"]


def test_printable_keeps_letters_of_all_scripts() -> None:
    assert printable("grün-日本.example", 50) == "grün-日本.example"
    assert printable("abcdef", 4) == "abc…"
