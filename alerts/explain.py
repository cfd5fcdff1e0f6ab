"""The sentence that explains an alert.

It has three parts, each with its own author: who (the identities of attackers and victims, from here),
what (``Finding.summary``, written by the detector with its values against their limits; where that is
empty, the evidence), and how far to trust it (forged addresses and data quality, from here).
"""

from __future__ import annotations

from collections.abc import Sequence

from alerts.wording import evidence_text, number, printable, title
from schemas.finding import DataQuality, Endpoint, Evidence

MAX_EXPLANATION = 2000
_MAX_SUMMARY = 1000


def explanation(
    summary: str,
    attackers: Sequence[Endpoint],
    victims: Sequence[Endpoint],
    evidence: Sequence[Evidence],
    quality: DataQuality,
    spoofable: bool,
) -> str:
    """Return the explanation: identities, then what happened, then caveats; at most 2,000 characters."""
    what = printable(summary.strip(), _MAX_SUMMARY).rstrip(".") or "; ".join(map(evidence_text, evidence[:4]))
    who = involved(attackers, victims)
    sentence = ": ".join(part for part in (who, what or "no values were given") if part)
    reasons = caveats(quality, spoofable)
    text = f"{sentence}. Note: {'; '.join(reasons)}." if reasons else f"{sentence}."
    return printable(text, MAX_EXPLANATION)


def involved(attackers: Sequence[Endpoint], victims: Sequence[Endpoint]) -> str:
    """Return ``From pod a/b (…) against pod c/d (…)``; empty where no identity is known.

    Without identity the detector's summary already holds all that there is to say: addresses.
    """
    if not any(e.identity == "known" for e in (*attackers[:1], *victims[:1])):
        return ""
    sides = (("from", attackers), ("against", victims))
    text = " ".join(f"{word} {_side(side)}" for word, side in sides if side)
    return text[:1].upper() + text[1:]


def _side(endpoints: Sequence[Endpoint]) -> str:
    more = len(endpoints) - 1
    return title(endpoints[0]) + (f" and {more} more" if more else "")


def caveats(quality: DataQuality, spoofable: bool) -> list[str]:
    """Return what limits the trust in an alert, the gravest first."""
    found = ["the source addresses could be forged"] if spoofable else []
    if quality.sampling > 1:
        found.append(f"only one packet in {number(quality.sampling)} was seen")
    losses = (
        (quality.lost_packets, "packets were lost before they were read"),
        (quality.lost_rows, "rows were shed by exporters"),
        (quality.malformed, "packets could not be parsed"),
        (quality.lost_messages, "messages of exporters were lost"),
        (quality.late, "seconds of nodes came too late"),
        (quality.restamped, "seconds of nodes had a wrong clock"),
        (quality.shed, "keys did not fit a full table"),
    )
    found += [f"{number(count)} {what}" for count, what in losses if count]
    return found + [printable(note, 200).rstrip(".") for note in quality.notes]
