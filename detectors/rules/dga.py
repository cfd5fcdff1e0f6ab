"""DGA: a client asks for many domains whose names an algorithm made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from detectors.base import Detector, DetectorConfig, KeyView, Mask, Meta, TickView, confidence
from detectors.features import Distinct, Feature, Sum
from detectors.index import I64, positions
from detectors.statement import count
from schemas.events import Capability
from schemas.finding import Evidence, Finding, Severity


class DgaConfig(DetectorConfig):
    """Limits of ``dga``."""

    domains: Annotated[int, Field(ge=3)] = Field(
        12, description="domains with generated or run-on names that one client may ask below within the window (count)"
    )
    share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="of all domains it asks below; of popular domains every tenth name looks generated"
    )
    missing: Annotated[int, Field(ge=3)] = Field(
        12, description="generated domains that do not exist (count); above it the share does not matter"
    )
    absent: Annotated[int, Field(ge=3)] = Field(
        40, description="domains of whatever look that do not exist (count); people mistype a few an hour"
    )
    absent_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="of all domains it asks below, for that; a crawler's dead links are fewer than its live ones"
    )
    bulk: Annotated[int, Field(ge=3)] = Field(
        2000, description="queries within the window (count) above which the client is a crawler or resolver; then low"
    )
    window: Annotated[int, Field(ge=12)] = Field(
        1200, description="s; generators try some names a minute until one answers"
    )


class Dga(Detector):
    """Fires per client, by many names together: any single one may be an abbreviation."""

    meta = Meta(
        id="dga",
        title="Generated domain names",
        stage=1,
        severity="medium",
        techniques=("T1568.002",),
        needs=Capability.DNS,
        blind="generated domain names are not seen: the source does not report names asked",
        response="quarantine_pod",
    )
    Config: ClassVar[type[DetectorConfig]] = DgaConfig
    config: DgaConfig

    def features(self) -> Sequence[Feature]:
        """Domains asked below, those with generated and with run-on names, and those that do not exist."""
        self._domains = self._labels("dns_domains", "queries")
        self._generated = self._labels("generated_domains", "generated")
        self._nowhere = self._labels("generated_domains_missing", "generated_failures")
        self._long = self._labels("run_on_domains", "long")
        self._missing = self._labels("missing_domains", "missing")
        self._queries = Feature("dns_queries", "dns_client", self.config.window, Sum("queries"))
        return self._domains, self._generated, self._nowhere, self._long, self._missing, self._queries

    def _labels(self, name: str, measure: str) -> Feature:
        return Feature(name, "dns_client", self.config.window, Distinct("label", measure), "domains")

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return one finding per client."""
        keys = view.space("dns_client")
        if keys is None:
            return []
        config = self.config
        generated, long, missing = (keys.value(f) for f in (self._generated, self._long, self._missing))
        many = (generated > config.domains) | (long > config.domains) | (missing > config.absent)
        if not (many & keys.can_see(self.meta.needs)).any():
            return []
        domains, seen = keys.value(self._domains), keys.can_see(self.meta.needs)
        found = _of(generated, config.domains, domains, config.share)
        found |= (generated > config.domains) & (keys.value(self._nowhere) > config.missing)
        found |= _of(long, config.domains, domains, config.share) | self._absent(missing, domains)
        return sorted(
            (self._finding(view, keys, row) for row in positions(found & seen).tolist()),
            key=lambda f: (f.tick, f.subject),
        )

    def _absent(self, missing: I64, domains: I64) -> Mask:
        return _of(missing, self.config.absent, domains, self.config.absent_share)

    def _finding(self, view: TickView, keys: KeyView, row: int) -> Finding:
        config = self.config
        tick, node, client = int(keys.ticks[row]), keys.node(row), keys.address("client", row)
        values = (self._generated, self._long, self._domains, self._nowhere, self._missing)
        generated, long, domains, nowhere, missing = (int(keys.value(f)[row]) for f in values)
        by = view.endpoint(client, tick)
        more = f", {count(nowhere)} of them without existing" if nowhere else ""
        what = f"{count(generated)} domains with generated names, limit {config.domains},"
        if generated <= config.domains:
            what = f"{count(long)} domains with run-on names, limit {config.domains},"
        if max(generated, long) <= config.domains:
            what = f"{count(missing)} domains that do not exist, limit {config.absent},"
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=self._severity(keys, row),
            confidence=max(confidence(max(generated, long), config.domains), confidence(nowhere, config.missing),
                           confidence(missing, config.absent)),
            tick=tick, started=max(int(keys.since()[row]), tick - config.window), node=node,
            subject=f"{client}@{node}", attackers=(by,), techniques=self.meta.techniques,
            evidence=(
                Evidence(name="generated_domains", value=generated, limit=config.domains, unit="domains",
                         window=config.window),
                Evidence(name="generated_share", value=round(generated / max(domains, 1), 3), limit=config.share,
                         window=config.window),
                Evidence(name="generated_domains_missing", value=nowhere, limit=config.missing, unit="domains",
                         window=config.window),
                Evidence(name="run_on_domains", value=long, limit=config.domains, unit="domains", window=config.window),
                Evidence(name="missing_domains", value=missing, limit=config.absent, unit="domains",
                         window=config.window),
            ),
            summary=f"{client} asked below {what} of {count(domains)} within {config.window} s{more}",
            # Most questions are single datagrams, whose sender may be forged.
            spoofable=True, data_quality=view.quality[node], response=self.meta.response, quiet=300,
        )  # fmt: skip

    def _severity(self, keys: KeyView, row: int) -> Severity:
        """Return low for who asks for everything, for names that mostly exist, and for long names that may."""
        values = (self._generated, self._nowhere, self._missing, self._domains, self._queries)
        generated, nowhere, missing, domains, queries = (keys.value(f)[row : row + 1] for f in values)
        if (queries > self.config.bulk).any():
            return "low"
        if self._absent(missing, domains).any():
            return self.meta.severity
        told = keys.can_see(Capability.DNS_ANSWERS)[row]
        suspected = generated > self.config.domains
        return "low" if not suspected.any() or (told and (2 * nowhere < generated).any()) else self.meta.severity


def _of(value: I64, limit: int, domains: I64, share: float) -> Mask:
    """Tell where a count is above its limit and its share of all domains."""
    above: Mask = (value > limit) & (value > np.multiply(share, domains))
    return above
