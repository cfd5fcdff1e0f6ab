"""Manifests as YAML, and proofs as text for people."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from response.prove import NOTHING_TO_PROVE, Proof, RecentPeer

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def manifests_yaml(manifests: Iterable[Mapping[str, Any]]) -> str:
    """The manifests as one YAML stream that `kubectl apply --server-side -f -` accepts, commands to nodes aside."""
    return yaml.safe_dump_all([dict(item) for item in manifests], sort_keys=False, explicit_start=True)


def proof_table(proof: Proof) -> str:
    """A proof as a small table, one claim a line; control characters are replaced."""
    rows = [("holds", "yes" if proof.holds else f"no: {proof.message}"), ("dialect", _dialect_text(proof))]
    rows.append(("pods", _some(proof.pods)))
    if proof.reason == NOTHING_TO_PROVE:
        return _table([("claims", proof.message), ("pods", _some(proof.pods))])
    rows += [("attack", f"{row.flow}: {row.before} → {row.after}") for row in proof.attack[:5]]
    if len(proof.attack) > 5:
        rows.append(("attack", f"and {len(proof.attack) - 5} more pairs, all evaluated"))
    rows.append(("allows new", proof.counterexample or "nothing (all addresses and ports, both ipBlock readings)"))
    rows.append(("dns", _dns_text(proof)))
    rows.append(("peers cut", _some(proof.peers_cut)))
    rows += [("recent cut", f"{row.what}: {row.bytes} bytes in {row.flows} flows") for row in _cut(proof)[:10]]
    if proof.recent:
        counts = Counter(row.status for row in proof.recent)
        rows.append(("recent", ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))))
    rows.append(("node", proof.note))
    return _table(rows)


def _table(rows: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join(_CONTROL.sub("?", f"{name:<{width}}  {text}") for name, text in rows)


def _dialect_text(proof: Proof) -> str:
    """The dialect, and everything in which the proof was made: with and without what nobody knows to be enforced."""
    told = " and with ".join("+".join(names) for names in proof.in_force)
    return f"{proof.dialect} (evaluated with {told} in force)"


def _cut(proof: Proof) -> list[RecentPeer]:
    return [row for row in proof.recent if row.status == "cut"]


def _dns_text(proof: Proof) -> str:
    cut = sum(row.status == "cut" for row in proof.dns)
    if not proof.dns:
        return "no DNS server known to this view"
    if cut:
        return f"{cut} of {len(proof.dns)} paths cut{' on purpose' if proof.isolates else ''}"
    return f"kept ({len(proof.dns)} paths)"


def _some(names: Sequence[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
