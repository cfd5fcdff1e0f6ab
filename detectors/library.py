"""The words that a rule may use, and how each is computed.

Every word is one aggregate over one key space, so a rule costs what its features cost and shares them
with every detector that asks for the same. ``docs/rules.md`` is made from this table.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from detectors.features import Distinct, Feature, Sum
from detectors.filtered_measure import filtered_measure
from detectors.identity_keys import By
from detectors.row_filter import RowKind
from detectors.spaces import IDENTITY_SPACES, SPACES, by_identity
from schemas.events import Capability as _C

ANOMALY_WORD = "traffic_pattern_anomaly"
ANOMALY_DETECTOR = "traffic_anomaly"

MAX_COUNTED = 1 << 16  # limit of a distinct count; above it, one key could fill a quarter of its space's pairs


@dataclass(frozen=True)
class FeatureWord:
    """One word: a number per key and window."""

    word: str
    space: str
    aggregate: Sum | Distinct
    unit: str
    meaning: str
    needs: _C
    detector: str = "rule"
    kind: str = "rule"
    techniques: tuple[str, ...] = ()

    @property
    def distinct(self) -> bool:
        """Tell whether it counts different things, which is capped."""
        return isinstance(self.aggregate, Distinct)

    @property
    def rows(self) -> RowKind | None:
        """The kind of row that it counts, where a filter can say which of them; none where it cannot."""
        return _FILTERED.get(self.space)

    @property
    def identifiable(self) -> bool:
        """Tell whether it can be counted by pod, workload, namespace, Service or node instead of by address."""
        return any(space == self.space for space, _ in IDENTITY_SPACES.values())

    def feature(self, window: int, highest: float, where: str = "", by: By | None = None) -> Feature:
        """Return the feature for a window.

        Args:
            window: s.
            highest: the largest number that the value is compared with; a distinct count remembers at
                least four times as many.
            where: filter of the rows that count; only for words that have ``rows``.
            by: kind of identity that it is counted for; only for words that are ``identifiable``.
        """
        aggregate, name = self.aggregate, self.word
        if isinstance(aggregate, Distinct) and 4 * highest > aggregate.cap:
            cap = 1 << (int(4 * highest) - 1).bit_length()
            aggregate, name = replace(aggregate, cap=cap), f"{name}.{cap}"
        if where:
            aggregate = replace(aggregate, measure=filtered_measure(aggregate.measure, where))
            name = f"{name}.{hashlib.blake2b(where.encode(), digest_size=4).hexdigest()}"
        space = by_identity(self.space, by) if by is not None else self.space
        return Feature(name, space, window, aggregate, self.unit)


# Spaces whose measures are made row by row on the node that saw them, so that rows can be left out.
_FILTERED: dict[str, RowKind] = {"source": "flow", "dns_client": "dns"}

_OPEN = _C.ATTEMPTS

_TABLE = (
    FeatureWord("connection_rate", "victim", Sum("attempts"), "connections",
                "new TCP and QUIC connections towards one host, from all sources and nodes", _OPEN,
                "connection_flood", "connection_flood", ("T1498", "T1499")),
    FeatureWord("syn_rate", "victim", Sum("syn"), "packets",
                "SYN packets towards one host, from all sources and nodes", _C.TCP_FLAGS | _OPEN,
                "syn_flood", "syn_flood", ("T1498.001", "T1499.001")),
    FeatureWord("unanswered_connections", "victim", Sum("unanswered"), "connections",
                "connections towards one host that it never answered", _OPEN),
    FeatureWord("refused_connections", "victim", Sum("refused"), "connections",
                "connections towards one host that were refused", _OPEN),
    FeatureWord("unique_sources", "victim", Distinct("source", "attempts", cap=MAX_COUNTED), "sources",
                "different sources that opened connections towards one host", _OPEN),
    FeatureWord("unique_ports_scanned", "pair", Distinct("port", "probes", "conversed"), "ports",
                "different ports that one source tried on one host without ever talking to them", _OPEN | _C.PORTS,
                "port_scan", "port_scan_vertical", ("T1046",)),
    FeatureWord("unique_hosts_contacted", "sweep", Distinct("host", "probes", "conversed"), "hosts",
                "different hosts on which one source tried the same service without ever talking to it", _OPEN,
                "host_sweep", "port_scan_horizontal", ("T1018", "T1046")),
    FeatureWord("connection_attempts", "source", Sum("opened"), "flows",
                "flows of any protocol that one source opened", _OPEN),
    FeatureWord("failed_connections", "source", Sum("failed"), "flows",
                "flows of one source that were refused or never answered", _OPEN),
    FeatureWord("bytes_sent", "source", Sum("src_bytes"), "IP bytes",
                "sent by one source in flows that it opened", _C.PACKETS),
    FeatureWord("bytes_received", "source", Sum("dst_bytes"), "IP bytes",
                "received by one source in flows that it opened", _C.PACKETS | _C.REVERSE),
    FeatureWord("packets_sent", "source", Sum("src_packets"), "packets",
                "sent by one source in flows that it opened", _C.PACKETS),
    FeatureWord("unique_destinations", "source", Distinct("host", "opened"), "hosts",
                "different hosts that one source opened flows to", _OPEN),
    FeatureWord("unique_destination_ports", "source", Distinct("port", "opened"), "ports",
                "different ports, by protocol, of any hosts that one source opened flows to", _OPEN | _C.PORTS),
    FeatureWord("flow_rows", "source", Sum("matched"), "rows",
                "flow rows of one source; with a filter such as `closed`, one for each flow that it holds for", _C(0)),
    FeatureWord("dns_rows", "dns_client", Sum("matched"), "rows",
                "DNS rows of one client: one for each answer record, and one for a query without an answer", _C.DNS),
    FeatureWord("dns_queries", "dns_client", Sum("queries"), "queries",
                "DNS queries of one client", _C.DNS),
    FeatureWord("dns_failures", "dns_client", Sum("failures"), "queries",
                "DNS queries of one client answered NXDOMAIN or SERVFAIL, or not at all", _C.DNS | _C.DNS_ANSWERS),
    FeatureWord("unique_dns_names", "dns_client", Distinct("name", "queries"), "names",
                "different names that one client asked for", _C.DNS),
)  # fmt: skip

WORDS: dict[str, FeatureWord] = {w.word: w for w in _TABLE}


def known_words() -> list[str]:
    """Return every word that a condition may name, sorted."""
    return sorted([*WORDS, ANOMALY_WORD])


def words_table() -> str:
    """Return the words as a Markdown table, for ``docs/rules.md``."""
    lines = ["| word | unit | meaning | counted per | alert's kind |", "|---|---|---|---|---|"]
    for name in sorted(WORDS):
        word = WORDS[name]
        lines.append(f"| `{name}` | {word.unit} | {word.meaning} | {_keyed(word)} | `{word.kind}` |")
    meaning = "true while the learned anomaly of a workload persists; takes no comparison"
    lines.append(f"| `{ANOMALY_WORD}` | yes or no | {meaning} | workload | `{ANOMALY_DETECTOR}` |")
    return "\n".join(lines) + "\n"


def _keyed(word: FeatureWord) -> str:
    space = SPACES[word.space]
    return space.meaning + ("" if space.stage == 2 else ", on one node")
