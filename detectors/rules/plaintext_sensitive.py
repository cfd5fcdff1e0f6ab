"""Credentials in clear: protocols and requests that show them to everybody on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from detectors.base import DetectorConfig, Meta, TickView
from detectors.claim_detector import Address, ClaimDetector, address_text
from detectors.flow_rows import FlowRows
from detectors.frame import TCP
from detectors.http_frame import HttpFrame
from detectors.index import I64, positions
from detectors.outside import is_outside
from detectors.round_frames import RoundFrames
from detectors.row_frame import Array, row_keys
from schemas.events import Capability, FlowMark
from schemas.finding import Evidence, Finding, Severity

Port = Annotated[int, Field(ge=1, le=65535)]
Protocol = Annotated[str, Field(min_length=1, max_length=32)]
_HTTP = "HTTP"

# Assigned ports (IANA). The first never encrypt; the others may begin TLS inside (STARTTLS), which rows do not tell.
_CLEAR = {"Telnet": 23, "rexec": 512, "rlogin": 513, "rsh": 514}
_UPGRADABLE = {"FTP": 21, "POP3": 110, "IMAP": 143, "LDAP": 389, "SMTP submission": 587}
# Servers that ask for a password and that speak TLS from the first byte where they do; others ask for it inside.
_DATABASES = {"AMQP": 5672, "Redis": 6379, "MQTT": 1883, "MongoDB": 27017}


class _Use(NamedTuple):
    """One client that spoke a protocol with one server in one tick."""

    client: Address
    server: Address
    port: int
    http: bool
    outward: bool


class PlaintextSensitiveConfig(DetectorConfig):
    """Limits of ``plaintext_sensitive``."""

    clear: dict[Protocol, Port] = Field(
        _CLEAR, description="TCP ports of protocols that show credentials and never encrypt; medium"
    )
    upgradable: dict[Protocol, Port] = Field(
        _UPGRADABLE, description="TCP ports of protocols that show credentials unless they upgrade inside; low"
    )
    databases: dict[Protocol, Port] = Field(
        _DATABASES, description="TCP ports that speak TLS from the first byte or not at all; low, outward medium"
    )
    again: Annotated[int, Field(ge=3600)] = Field(
        86_400, description="s after which one client and server are told again; one reminder a day"
    )


class PlaintextSensitive(ClaimDetector):
    """Fires per client, server and port, once a day: there is a connection to encrypt, not an incident to stop."""

    meta = Meta(
        id="plaintext_sensitive",
        title="Credentials in clear",
        stage=1,
        severity="low",
        techniques=("T1040", "T1552"),
        needs=Capability.PORTS | Capability.PAYLOAD,
        blind="credentials in clear are not seen: the source does not report payload",
        response=None,
    )
    Config: ClassVar[type[DetectorConfig]] = PlaintextSensitiveConfig
    config: PlaintextSensitiveConfig
    state_version = 2

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._told = self.remembered("told", 8192, self.config.again)  # client, server and port
        given = (self.config.databases, self.config.upgradable, self.config.clear)
        self._words = {port: protocol for protocols in given for protocol, port in protocols.items()}
        self._watched = np.zeros(1 << 16, np.bool_)
        self._watched[list(self._words)] = True

    def observe(self, frames: RoundFrames) -> None:
        """Take in conversations on the ports and requests with credentials."""
        self._observe_flows(frames)
        http = frames.http
        if http is None:
            return
        asked = positions(http.credentials.astype(np.bool_))
        if len(asked):
            self._note(frames, http, asked, [x[asked] for x in (*http.src, *http.dst, http.dst_port)])

    def _observe_flows(self, frames: RoundFrames) -> None:
        rows = frames.flow
        if rows is None:
            return
        # Payload both ways is told once in a flow's life.
        talked = rows.own & rows.marked(FlowMark.EXCHANGED) & (rows.proto == TCP) & self._watched[rows.dst_port]
        at = positions(talked)
        if not len(at):
            return
        number, apps = rows.words_of("app", at)
        encrypted = np.array([app in ("tls", "ssh") for app in apps], np.bool_)[number]
        at = at[~encrypted]
        self._note(frames, rows, at, [*rows.ends(at), rows.dst_port[at]])

    def _note(self, frames: RoundFrames, rows: FlowRows | HttpFrame, at: I64, columns: Sequence[Array]) -> None:
        """Note the clients, servers and ports of given rows, in ``columns``, that were not told lately."""
        nodes = rows.node_of(at)
        first = self.first_of(columns, nodes)
        keys, ticks = row_keys((nodes, *columns), first), rows.tick_of(at[first])
        new = self._told.find(keys, ticks) < 0
        first, ticks = first[new], ticks[new]
        self._told.admit(keys[new], nodes[first], ticks)
        a, b, c, d, port = (column[first] for column in columns)
        given = (nodes[first], ticks, a, b, c, d, port, is_outside(c, d))
        http = isinstance(rows, HttpFrame)
        for node, tick, one, two, three, four, to, out in zip(*(x.tolist() for x in given), strict=True):
            self._noted.append((frames.names[node], tick, _Use((one, two), (three, four), to, http, out)))

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the finding about one client and server."""
        name, tick, use = noted
        client, server = address_text(use.client), address_text(use.server)
        outward = use.outward and view.identities.role(server, tick) not in ("internal", "shared")
        sure = 0.9 if self._kind(use) in ("http", "clear") else 0.5
        protocol = _HTTP if use.http else self._words[use.port]
        return [Finding(
            detector=self.meta.id, kind=self.meta.id, title=self.meta.title, severity=self._severity(use, outward),
            confidence=sure, tick=tick, started=tick, node=name,
            subject=f"{client}@{name}/{server}:{use.port}", attackers=(view.endpoint(client, tick),),
            victims=(view.endpoint(server, tick, port=use.port, protocol="TCP"),), techniques=self.meta.techniques,
            evidence=(
                Evidence(name="conversations", value=1, limit=0, unit="in this second"),
                Evidence(name="outward", value=int(outward), unit="1: the server is outside"),
            ),
            summary=f"{client} speaks {protocol} with {server} port {use.port} in clear"
                    f"{' through networks outside' if outward else ''}: {_remedy(self._kind(use))}",
            spoofable=False, data_quality=view.quality[name], response=self.meta.response, quiet=600,
        )]  # fmt: skip

    def _kind(self, use: _Use) -> Literal["http", "clear", "upgradable", "database"]:
        if use.http:
            return "http"
        if use.port in self.config.clear.values():
            return "clear"
        return "upgradable" if use.port in self.config.upgradable.values() else "database"

    def _severity(self, use: _Use, outward: bool) -> Severity:
        kind = self._kind(use)
        # Cookies of a shop window are credentials too: requests alone are never more than low.
        return "medium" if kind == "clear" or (kind == "database" and outward) else "low"


def _remedy(kind: str) -> str:
    return {
        "http": "the request bore credentials; use HTTPS",
        "clear": "it never encrypts; replace it, for instance by SSH",
        "upgradable": "credentials are readable unless it upgrades inside, which is not seen; use its TLS port",
        "database": "no TLS was seen; switch it on at the server",
    }[kind]
