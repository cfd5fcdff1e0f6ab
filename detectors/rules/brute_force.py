"""Brute force: many short, alike conversations of one source with one service that asks for a password."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from detectors.base import DetectorConfig, Mask, Meta, TickView, confidence
from detectors.claim_detector import ClaimDetector, address_text
from detectors.features import BUCKETS
from detectors.flow_rows import FlowRows
from detectors.frame import TCP
from detectors.grouping import Grouping
from detectors.http_frame import HttpFrame
from detectors.index import I64, positions
from detectors.ledger import Entry, Key
from detectors.round_frames import RoundFrames
from detectors.row_frame import Array, row_keys
from detectors.statement import count
from schemas.events import Capability, FlowMark, PayloadSide
from schemas.finding import Evidence, Finding, Severity
from schemas.roles import SHARED

# Services that ask who is there, by number; "" is any other one whose server speaks first, "http" is told by requests.
# SSH is two: servers answer a wrong password late on purpose, so that a login that ended at once was none.
_SERVICES = ("ssh", "ftp", "telnet", "rdp", "vnc", "smb", "pop3", "imap", "", "http", "quick ssh")
_NUMBER = {name: number for number, name in enumerate(_SERVICES)}
_PORTS = {
    21: "ftp", 22: "ssh", 23: "telnet", 110: "pop3", 139: "smb", 143: "imap", 445: "smb", 3389: "rdp", 5900: "vnc",
}  # fmt: skip
# Programs that deliver mail open many short and alike connections to servers that speak first: no sign of anything.
_MAIL = (25, 465, 587)
_NOT_ASKING = -1
_BY_PORT: I64 = np.full(1 << 16, _NUMBER[""], np.int64)
_BY_PORT[list(_PORTS)] = [_NUMBER[name] for name in _PORTS.values()]
_BY_PORT[list(_MAIL)] = _NOT_ASKING
_REFUSALS = (401, 403)  # RFC 9110: credentials are missing or refused; forbidden
_APPS = {name: _NUMBER[name] for name in ("ssh", "ftp", "rdp", "smb", "")}  # words of the column
_STEADY = ("smb", "pop3", "imap", "quick ssh")  # clients of these come back every few seconds without being told to
_SECOND = 1_000_000_000
_CARRIED = 60  # s for which a data connection says of an FTP client that it is let in


@dataclass
class _Guesses(Entry):
    """One source's short conversations with one service of one host: [begin, count, bytes, squares] per bucket."""

    buckets: list[list[int]] = field(default_factory=list)


class BruteForceConfig(DetectorConfig):
    """Limits of ``brute_force``."""

    logins: Annotated[int, Field(ge=1)] = Field(
        8, description="short conversations with one SSH, FTP, Telnet, RDP or VNC server within the window (count)"
    )
    steady_logins: Annotated[int, Field(ge=1)] = Field(
        40, description="the same for SMB, POP3, IMAP and SSH that ends at once, whose clients come back often (count)"
    )
    shape_logins: Annotated[int, Field(ge=1)] = Field(
        60, description="the same for a server on another port that speaks first (count); raises a low alert"
    )
    http_refusals: Annotated[int, Field(ge=1)] = Field(
        20, description="requests with credentials that one HTTP server answered 401 or 403 within the window (count)"
    )
    payload: Annotated[int, Field(ge=1)] = Field(
        6000, description="bytes of payload each way that a refused login stays below; SSH keys take up to 5,000"
    )
    spread: Annotated[float, Field(gt=0)] = Field(
        0.5, description="standard deviation of the server's bytes per conversation, as a share of their mean"
    )
    delay: Annotated[float, Field(ge=0)] = Field(
        1.5, description="s that an SSH conversation lasts at least if a password was refused; servers delay the answer"
    )
    shared_factor: Annotated[int, Field(ge=1)] = Field(
        5, description="limits of addresses that many share (nodes, gateways, proxies) are so many times higher"
    )
    window: Annotated[int, Field(ge=12)] = Field(300, description="s")


class BruteForce(ClaimDetector):
    """Fires per (source, host, port).

    A login that is refused ends soon, with few bytes, and looks like the next one. Sessions that are used last
    longer, carry more, or differ. For plain HTTP the answers say it.
    """

    meta = Meta(
        id="brute_force",
        title="Password guessing",
        stage=1,
        severity="medium",
        techniques=("T1110.001", "T1110.003"),
        needs=Capability.PORTS | Capability.PAYLOAD | Capability.REVERSE,
        blind="password guessing is not seen: the source does not report payload bytes both ways",
        response="quarantine_pod",
    )
    Config: ClassVar[type[DetectorConfig]] = BruteForceConfig
    config: BruteForceConfig

    def __init__(self, config: DetectorConfig | None = None) -> None:
        super().__init__(config)
        self._guesses = self.ledger("guesses", _Guesses, 4096, self.config.window)
        self._asked = self.ledger("asked", Entry, 8, _CARRIED)  # whether a node's machines speak FTP at all
        self._carried = self.ledger("carried", Entry, 1024, _CARRIED)
        self._bucket = -(-self.config.window // BUCKETS)

    def observe(self, frames: RoundFrames) -> None:
        """Take in conversations that ended, and refused requests."""
        if frames.flow is not None:
            self._ended(frames.flow, frames)
        if frames.http is not None:
            self._refused(frames.http, frames)

    def _ended(self, flows: FlowRows, frames: RoundFrames) -> None:
        ended = flows.marked(FlowMark.CLOSED) & (flows.proto == TCP) & flows.own
        if not ended.any():
            return
        sent, answered = flows.numbers("total_src_payload"), flows.numbers("total_dst_payload")
        self._carry(flows, ended & ((sent > 0) != (answered > 0)) & (flows.dst_port >= 1024))
        most = self.config.payload
        ended &= (sent > 0) & (sent <= most) & (answered > 0) & (answered <= most)
        rows = positions(ended)
        service = self._service(flows, rows)
        rows, service = rows[service >= 0], service[service >= 0]
        columns = (*flows.ends(rows), flows.dst_port[rows].astype(np.uint64), service.astype(np.uint64))
        self._add(flows, frames, rows, columns, answered)

    def _carry(self, flows: FlowRows, one_way: Mask) -> None:
        """Note who carried a file: FTP does so one way, on a connection of its own (RFC 959, section 3.2)."""
        for node, tick, _ in flows.ticks(flows.dst_port == 21):
            self._asked.touch(node, (0,), tick)
        for node, tick, mine in flows.ticks(one_way) if len(self._asked) else ():
            if self._asked.get(node, (0,), tick) is None:
                continue
            columns = flows.ends(mine)
            active = flows.numbers("src_port")[mine] == 20
            for at in self.pieces(columns, node, np.arange(len(mine))).tolist():
                pair = tuple(int(column[at]) for column in columns)
                self._carried.touch(node, (*pair[2:], *pair[:2]) if active[at] else pair, tick)

    def _service(self, flows: FlowRows, rows: I64) -> I64:
        """Return the number of each row's service, -1: none that asks for a password."""
        service = _BY_PORT[flows.dst_port[rows]]
        app = flows.words_as("app", rows, _APPS, _NOT_ASKING)
        odd = service == _NUMBER[""]
        greeted = flows.numbers("first_payload")[rows] == PayloadSide.RESPONDER
        app = np.where((app == _NUMBER[""]) & ~greeted, _NOT_ASKING, app)
        named: I64 = np.where(odd, app, service)
        lasted = flows.numbers("end")[rows] - flows.numbers("conn_start")[rows]
        quick = (named == _NUMBER["ssh"]) & (lasted < self.config.delay * _SECOND)
        return np.where(quick, _NUMBER["quick ssh"], named)

    def _refused(self, requests: HttpFrame, frames: RoundFrames) -> None:
        rows = positions(np.isin(requests.status, _REFUSALS) & requests.credentials)
        if not len(rows):
            return
        ends = (half[rows] for end in (requests.src, requests.dst) for half in end)
        columns = (*ends, requests.dst_port[rows].astype(np.uint64), np.full(len(rows), _NUMBER["http"], np.uint64))
        self._add(requests, frames, rows, columns, np.ones(len(requests), np.int64))

    def _add(self, frame: FlowRows | HttpFrame, frames: RoundFrames, rows: I64, columns: tuple[Array, ...],
             size: I64) -> None:  # fmt: skip
        """Add rows, whose ``columns`` make the key, to what is known of their pairs."""
        if not len(rows):
            return
        nodes = frame.node_of(rows)
        grouping = Grouping.equal(row_keys((nodes, *columns), np.arange(len(rows))))
        sizes = size[rows]
        kept = self.heads(nodes[grouping.first], np.arange(len(grouping)))
        first = grouping.first[kept]
        sums = [grouping.total(values)[kept] for values in (np.ones_like(sizes), sizes, sizes * sizes)]
        keys = zip(*(column[first].tolist() for column in columns), strict=True)
        when = zip(nodes[first].tolist(), frame.tick_of(rows[first]).tolist(), strict=True)
        for key, (node, tick), *amounts in zip(keys, when, *(s.tolist() for s in sums), strict=True):
            self._learn(frames.names[node], node, tick, key, amounts)

    def _learn(self, name: str, node: int, tick: int, key: Key, amounts: list[int]) -> None:
        if _SERVICES[key[5]] == "ftp" and self._carried.get(node, key[:4], tick) is not None:
            return
        entry = self._guesses.touch(node, key, tick)
        begin = tick - tick % self._bucket
        entry.buckets = [b for b in entry.buckets if b[0] > tick - self.config.window]
        if not entry.buckets or entry.buckets[-1][0] != begin:
            entry.buckets.append([begin, 0, 0, 0])
        last = entry.buckets[-1]
        last[1:] = [have + more for have, more in zip(last[1:], amounts, strict=True)]
        if sum(b[1] for b in entry.buckets) > self._limit(_SERVICES[key[5]]):
            self._noted.append((name, tick, key, [list(b) for b in entry.buckets]))

    def _limit(self, service: str) -> int:
        config = self.config
        if service in _STEADY:
            return config.steady_logins
        return {"": config.shape_logins, "http": config.http_refusals}.get(service, config.logins)

    def judge(self, view: TickView, noted: Any) -> list[Finding]:
        """Return the finding about one pair, where its conversations are alike."""
        node, tick, key, buckets = noted
        number, total, squares = (sum(b[i] for b in buckets) for i in (1, 2, 3))
        mean = total / number
        spread = max(0.0, squares / number - mean * mean) ** 0.5 / mean
        source = address_text(key[:2])
        limit = self._limit(_SERVICES[key[5]])
        if SHARED.intersection(view.roles(source, tick)):
            limit *= self.config.shared_factor
        if number <= limit or spread > self.config.spread:
            return []
        return [self._finding(view, node, tick, key, (number, limit, mean, spread, buckets[0][0]))]

    def _finding(self, view: TickView, node: str, tick: int, key: Key,
                 said: tuple[int, int, float, float, int]) -> Finding:  # fmt: skip
        number, limit, mean, spread, began = said
        source, host, port, service = (
            address_text(key[:2]),
            address_text(key[2:4]),
            key[4],
            _SERVICES[key[5]].removeprefix("quick "),
        )
        severity: Severity = self.meta.severity if service else "low"
        what = "requests with refused credentials" if service == "http" else "short, alike conversations"
        about = (Evidence(name="answer_bytes", value=round(mean, 1), unit="bytes per conversation"),
                 Evidence(name="answer_spread", value=round(spread, 3), unit="share of the mean"))  # fmt: skip
        return Finding(
            detector=self.meta.id, kind=f"brute_force_{service}" if service else "brute_force", title=self.meta.title,
            severity=severity, confidence=confidence(number, limit), tick=tick, started=began, node=node,
            subject=f"{source}->{host}:{port}@{node}", attackers=(view.endpoint(source, tick),),
            victims=(view.endpoint(host, tick, port=port, protocol="TCP"),), techniques=self.meta.techniques,
            evidence=(
                Evidence(name="login_attempts", value=number, limit=limit, unit="attempts", window=self.config.window),
                *(() if service == "http" else about),
            ),
            summary=f"{count(number)} {what} with {host} port {port}{f' ({service})' if service else ''} "
                    f"within {self.config.window} s, limit {limit}",
            # Payload went both ways, so the address was truly the sender's.
            spoofable=False, data_quality=view.quality[node], response=self.meta.response, quiet=120,
        )  # fmt: skip
