"""DNS tunnel: names and answers of one zone that carry data."""

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
from schemas.finding import Evidence, Finding

# Names counted per client and zone. Beyond it freshness can no longer be told, and the names of one second must fit: a
# tunnel that asks for more at once is what `dns_flood` finds.
_MOST_NAMES = 1 << 14


class DnsTunnelConfig(DetectorConfig):
    """Limits of ``dns_tunnel``."""

    names: Annotated[int, Field(ge=1)] = Field(
        20, description="distinct names below one zone that one client may ask within the window (count)"
    )
    carried: Annotated[int, Field(ge=1)] = Field(
        700, description="bytes that these names can carry in front of their zone (entropy times length)"
    )
    per_name: Annotated[int, Field(ge=1)] = Field(
        12, description="bytes that a name carries on average; hosts and hashes in browsing carry fewer"
    )
    fresh_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="distinct names per query; a tunnel hardly repeats itself, caches and pollers do"
    )
    free_form: Annotated[int, Field(ge=1)] = Field(
        30, description="queries for NULL, TXT, KEY, CERT or private types below one zone within the window (count)"
    )
    window: Annotated[int, Field(ge=12)] = Field(300, description="s")


class DnsTunnel(Detector):
    """Fires per (client, server, zone).

    Either many fresh names that together carry data, or many fresh names for record types that bring free
    bytes back. A client that answers queries itself only forwards and is never the subject.
    """

    meta = Meta(
        id="dns_tunnel",
        title="DNS tunnel",
        stage=1,
        severity="high",
        techniques=("T1071.004", "T1572", "T1048.003"),
        needs=Capability.DNS,
        blind="DNS tunnels are not seen: the source does not report names asked",
        response="block_egress_destination",
    )
    Config: ClassVar[type[DetectorConfig]] = DnsTunnelConfig
    config: DnsTunnelConfig

    def features(self) -> Sequence[Feature]:
        """Names, what they can carry, and the types asked."""
        window = self.config.window
        most = Distinct("name", "queries", cap=_MOST_NAMES)
        self._names = Feature("unique_dns_names", "dns_zone", window, most, "names")
        sums = ("queries", "name_information", "free_form", "query_bytes", "answer_bytes")
        self._sums = {m: Feature(f"dns_{m}", "dns_zone", window, Sum(m)) for m in sums}
        return self._names, *self._sums.values()

    def evaluate(self, view: TickView) -> list[Finding]:
        """Return one finding per tunnelling client and zone."""
        keys = view.space("dns_zone")
        if keys is None:
            return []
        names = keys.value(self._names)
        candidates = (names > self.config.names) & keys.can_see(self.meta.needs)
        if not candidates.any():
            return []
        fired = candidates & (self._carrying(keys, names) | self._fetching(keys, names))
        rows = positions(fired)
        found = [self._finding(view, keys, int(r), int(names[r])) for r in rows]
        return sorted(found, key=lambda f: (f.tick, f.subject))

    def _fresh(self, keys: KeyView, names: I64) -> Mask:
        fresh: Mask = names >= self.config.fresh_share * keys.value(self._sums["queries"])
        return fresh

    def _carrying(self, keys: KeyView, names: I64) -> Mask:
        carried = keys.value(self._sums["name_information"]) // 8
        queries = np.maximum(keys.value(self._sums["queries"]), 1)
        heavy: Mask = (carried > self.config.carried) & (carried > self.config.per_name * queries)
        return heavy & self._fresh(keys, names)

    def _fetching(self, keys: KeyView, names: I64) -> Mask:
        asked: Mask = keys.value(self._sums["free_form"]) > self.config.free_form
        return asked & self._fresh(keys, names)

    def _finding(self, view: TickView, keys: KeyView, row: int, names: int) -> Finding:
        config = self.config
        tick, node = int(keys.ticks[row]), keys.node(row)
        sums = {m: int(keys.value(f)[row]) for m, f in self._sums.items()}
        client, server = keys.address("client", row), keys.address("server", row)
        zone = keys.column("zone")[row].decode("ascii", "replace")
        carried = sums["name_information"] // 8
        return Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=self.meta.severity,
            confidence=max(confidence(carried, config.carried), confidence(sums["free_form"], config.free_form)),
            tick=tick, started=max(int(keys.since()[row]), tick - config.window), node=node,
            subject=f"{client}@{node}/{zone}", attackers=(view.endpoint(client, tick),),
            victims=(view.endpoint(server, tick, port=53, protocol="UDP"),), techniques=self.meta.techniques,
            evidence=(
                Evidence(name="unique_dns_names", value=names, limit=config.names, unit="names", window=config.window),
                Evidence(name="carried", value=carried, limit=config.carried, unit="bytes", window=config.window),
                Evidence(name="free_form_queries", value=sums["free_form"], limit=config.free_form, unit="queries",
                         window=config.window),
                Evidence(name="query_bytes", value=sums["query_bytes"], unit="bytes", window=config.window),
                Evidence(name="answer_bytes", value=sums["answer_bytes"], unit="bytes", window=config.window),
            ),
            summary=f"{count(names)} distinct names below {zone!r} asked of {server} within {config.window} s, limit "
                    f"{config.names}, able to carry {count(carried)} bytes; {count(sums['free_form'])} queries for "
                    f"free-form records",
            # Names are answered data: a tunnel needs its answers, so the client's address is its own.
            spoofable=sums["answer_bytes"] == 0, data_quality=view.quality[node], response=self.meta.response,
            quiet=120,
        )  # fmt: skip
