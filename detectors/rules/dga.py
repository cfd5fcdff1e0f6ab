"""DGA: a client asks for many domains whose names an algorithm made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from detectors.base import Detector, DetectorConfig, KeyView, Meta, TickView, confidence
from detectors.features import Distinct, Feature, Sum
from detectors.index import positions
from detectors.statement import count
from schemas.events import Capability
from schemas.finding import Evidence, Finding, Severity


class DgaConfig(DetectorConfig):
    """Limits of ``dga``."""

    domains: Annotated[int, Field(ge=3)] = Field(
        12, description="domains with generated names that one client may ask below within the window (count)"
    )
    share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="of all domains it asks below; of popular domains every tenth name looks generated"
    )
    missing: Annotated[int, Field(ge=3)] = Field(
        12, description="such domains that do not exist (count); above it the share does not matter"
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
        """Domains asked below, those with generated names, and those of them that do not exist."""
        window = self.config.window
        self._domains = Feature("dns_domains", "dns_client", window, Distinct("label", "queries"), "domains")
        self._generated = Feature("generated_domains", "dns_client", window, Distinct("label", "generated"), "domains")
        self._missing = Feature("generated_domains_missing", "dns_client", window,
                                Distinct("label", "generated_failures"), "domains")  # fmt: skip
        self._queries = Feature("dns_queries", "dns_client", window, Sum("queries"))
        return self._domains, self._generated, self._missing, self._queries

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return one finding per client."""
        keys = view.space("dns_client")
        if keys is None:
            return []
        config = self.config
        generated = keys.value(self._generated)
        many = (generated > config.domains) & keys.can_see(self.meta.needs)
        if not many.any():
            return []
        share = generated > config.share * keys.value(self._domains)
        missing = keys.value(self._missing) > config.missing
        found = [self._finding(view, keys, row) for row in positions(many & (share | missing)).tolist()]
        return sorted(found, key=lambda f: (f.tick, f.subject))

    def _finding(self, view: TickView, keys: KeyView, row: int) -> Finding:
        config = self.config
        tick, node, client = int(keys.ticks[row]), keys.node(row), keys.address("client", row)
        generated, domains, missing = (int(keys.value(f)[row]) for f in (self._generated, self._domains, self._missing))
        by = view.endpoint(client, tick)
        # Who asks for everything asks for some generated names too; and a generator's names mostly do not exist.
        crawls = int(keys.value(self._queries)[row]) > config.bulk
        told = bool(keys.can_see(Capability.DNS_ANSWERS)[row])
        severity: Severity = "low" if crawls or (told and 2 * missing < generated) else self.meta.severity
        more = f", {count(missing)} of them without existing" if missing else ""
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=severity,
            confidence=max(confidence(generated, config.domains), confidence(missing, config.missing)),
            tick=tick, started=max(int(keys.since()[row]), tick - config.window), node=node,
            subject=f"{client}@{node}", attackers=(by,), techniques=self.meta.techniques,
            evidence=(
                Evidence(name="generated_domains", value=generated, limit=config.domains, unit="domains",
                         window=config.window),
                Evidence(name="generated_share", value=round(generated / max(domains, 1), 3), limit=config.share,
                         window=config.window),
                Evidence(name="missing_domains", value=missing, limit=config.missing, unit="domains",
                         window=config.window),
            ),
            summary=f"{client} asked below {count(generated)} domains with generated names, limit {config.domains}, of "
                    f"{count(domains)} within {config.window} s{more}",
            # Most questions are single datagrams, whose sender may be forged.
            spoofable=True, data_quality=view.quality[node], response=self.meta.response, quiet=300,
        )  # fmt: skip
