"""Which built-in detectors fall silent while another one explains the same traffic.

The entries are the whole policy: a detector named on the left opens and continues no episode of a
subject for which one named on the right has an open built-in episode. YAML rules are never silenced:
whoever wrote one asked for it.
"""

from __future__ import annotations

from collections.abc import Mapping

from schemas.finding import Finding

SILENCED_BY: Mapping[str, frozenset[str]] = {
    # Every SYN is also a connection attempt; the flood of half-open ones is the more telling name.
    # QUIC packets are attempts too, where udp_flood counts them.
    "connection_flood": frozenset({"syn_flood", "udp_flood"}),
}


def silencers(finding: Finding) -> frozenset[str]:
    """Return the built-in detectors whose open episode of the same subject silences a finding."""
    return frozenset() if finding.rule is not None else SILENCED_BY.get(finding.detector, frozenset())
