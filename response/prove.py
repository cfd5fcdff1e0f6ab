"""The claim that a plan makes, and its proof over the real policies, pods and namespaces.

Every part is evaluated in both readings of ipBlock (see `evaluator.READINGS`), because the API leaves it to the
enforcer whether a block covers pod addresses, and with and without the policies of dialects of which it is not known
whether the cluster enforces them. A plan holds only if it holds in every one of these. No proof stands on a policy that
could not be read: where one applies to a pod that matters, the plan is refused with its name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Literal

from pydantic import BaseModel, ConfigDict

from response.drops import NO_DROPS, Drops
from response.guard import Refusal
from response.reach import Allowance, Step, cells_of, cut_peers, pair_ports, widening_of
from response.settings import ResponseSettings
from schemas.policy.addresses import span_of_address, span_of_cidr
from schemas.policy.cluster import ClusterView, Pod
from schemas.policy.dialects import doubts
from schemas.policy.evaluator import READINGS, Flow, IpBlockReading, evaluate
from schemas.policy.networkpolicy import DIRECTIONS, PROTOCOLS, Protocol
from schemas.policy.ports import ALL_PORTS, NO_PORTS, PortSet
from schemas.policy.words import DIALECTS, Dialect

DNS_PROTOCOLS: tuple[Protocol, ...] = ("UDP", "TCP")
NOTHING_TO_PROVE = "nothing_to_prove"
NODE_NOTE = "traffic between a pod and its own node, kubelet probes included, is never subject to policy and stays open"


@dataclass(frozen=True, slots=True)
class AttackPair:
    """Who attacks whom; `protocol` and `port` are None where the attack is not limited to one."""

    source: str
    destination: str
    protocol: str | None = None
    port: int | None = None

    def text(self) -> str:
        """Source, destination and what is attacked, in one line."""
        what = f" {self.protocol or 'any'}/{self.port if self.port is not None else 'any'}"
        return f"{self.source} → {self.destination}{what}"


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True)


class AttackRow(_Row):
    """One attacked pair, before and after."""

    flow: str
    before: str
    after: str
    was_open: bool
    blocked: bool


class KeptRow(_Row):
    """One connection that should survive: `kept`, `cut`, or `closed` (it was not allowed before either)."""

    what: str
    status: Literal["kept", "cut", "closed"]


PeerStatus = Literal["kept", "cut", "closed", "gone", "unjudged"]


class RecentPeer(_Row):
    """Whom a workload talked to lately; `gone` now, or `unjudged` where no policy can name it (a node, ICMP)."""

    what: str
    bytes: int
    flows: int
    status: PeerStatus


class Proof(_Row):
    """What was evaluated, and whether all that the plan claims holds."""

    holds: bool
    reason: str
    message: str
    readings: tuple[str, ...]
    pods: tuple[str, ...]
    attack: tuple[AttackRow, ...]
    narrower: bool
    counterexample: str | None
    dns: tuple[KeptRow, ...]
    protected_cut: tuple[str, ...]
    peers_cut: tuple[str, ...]
    isolates: bool
    dialect: str = "networkpolicy"
    in_force: tuple[tuple[str, ...], ...] = (("networkpolicy",),)
    note: str = NODE_NOTE
    recent: tuple[RecentPeer, ...] = ()
    spares_dns: bool = False


@dataclass(frozen=True)
class Claim:
    """What is to be proven of the step from `before` to `after`.

    `pods` are keys of the pods that the plan means to change. With `isolates`, the pods named must end with nothing
    allowed at all, and DNS and peers are cut on purpose; otherwise DNS and protected peers must be kept. `dialect` is
    the one that the plan is written in, which is taken to be enforced. `drops` are what nodes drop or slow down
    besides, whatever policies allow. With `spares_dns` isolated pods may end with what they were allowed of DNS.
    """

    before: ClusterView
    after: ClusterView
    pods: tuple[str, ...]
    attack: tuple[AttackPair, ...]
    isolates: bool
    dialect: Dialect = "networkpolicy"
    drops: Drops = NO_DROPS
    spares_dns: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One way in which the cluster may read its policies, and both views in that way."""

    step: Step
    reading: IpBlockReading

    @property
    def before(self) -> ClusterView:
        """The view before the step."""
        return self.step.before

    @property
    def after(self) -> ClusterView:
        """The view after it."""
        return self.step.after


@dataclass(frozen=True)
class _Cases:
    """Everything in which a claim must hold."""

    claim: Claim
    settings: ResponseSettings

    @cached_property
    def forces(self) -> tuple[frozenset[Dialect], ...]:
        """The sets of dialects that may be in force: what is surely enforced, and with it whatever is written here."""
        surely = frozenset((*self.settings.enforced(), self.claim.dialect))
        written = self.claim.before.dialects() | self.claim.after.dialects()
        perhaps = surely | frozenset(item for item in written if self.settings.dialects[item] != "off")
        return tuple(dict.fromkeys((surely, perhaps)))

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """Both readings of blocks for each of them."""
        claim = self.claim
        steps = [Step(claim.before.enforcing(force), claim.after.enforcing(force)) for force in self.forces]
        return tuple(Case(step, reading) for step in steps for reading in READINGS)


def nothing_to_prove(pods: tuple[str, ...], why: str) -> Proof:
    """What stands in the place of a proof for a plan that claims to stop nothing."""
    return Proof(
        holds=True, reason=NOTHING_TO_PROVE, message=why, readings=(), pods=pods, attack=(), narrower=True,
        counterexample=None, dns=(), protected_cut=(), peers_cut=(), isolates=False, in_force=(),
    )  # fmt: skip


def prove(claim: Claim, settings: ResponseSettings) -> Proof:
    """Evaluate a claim. Raises ValueError for an attack pair whose addresses are none."""
    asked = _Cases(claim, settings)
    cases = asked.cases
    attack = _limit_rows(claim.drops) or tuple(_attack_row(claim.drops, cases, pair) for pair in claim.attack)
    widening = next(filter(None, (widening_of(c.step, c.reading) for c in cases)), None)
    dns = tuple(_dns_rows(claim, cases, settings))
    peers = _peers_cut(claim, cases)
    protected = tuple(key for key in peers if key.split("/")[0] in settings.protected_namespaces)
    still_open = _still_open(claim, cases, settings) if claim.isolates else None
    failure = (
        _doubt(claim, cases)
        or _attack_failure(attack, claim.isolates)
        or (Refusal("widens", widening.text()) if widening else None)
        or (Refusal("not_isolated", still_open) if still_open else None)
        or (None if claim.isolates else _kept_failure(dns, protected))
    )
    return Proof(
        holds=failure is None,
        reason=failure.reason if failure else "proven",
        message=failure.message if failure else "blocks the attack and allows nothing that was not allowed before",
        readings=READINGS,
        pods=claim.pods,
        attack=attack,
        narrower=widening is None,
        counterexample=widening.text() if widening else None,
        dns=dns,
        protected_cut=protected,
        peers_cut=peers,
        isolates=claim.isolates,
        dialect=claim.dialect,
        spares_dns=claim.spares_dns,
        in_force=tuple(tuple(item for item in DIALECTS if item in force) for force in asked.forces),
    )


def _doubt(claim: Claim, cases: tuple[Case, ...]) -> Refusal | None:
    """The first policy that has a say on a pod of the plan or of the attack, and cannot be evaluated."""
    ends = [span_of_address(text) for pair in claim.attack for text in (pair.source, pair.destination)]
    for case in cases[:: len(READINGS)]:
        for view in (case.before, case.after):
            named = {*case.step.subjects, *claim.pods}
            named |= {pod.key for end in ends for pod in view.pods_at(end)}
            for pod in filter(None, map(view.pod, sorted(named))):
                line = next(iter(doubts(view, pod)), None)
                if line is not None:
                    message = f"what {pod.key} is allowed cannot be told: {line}"
                    return Refusal("unread", message)
    return None


def _attack_failure(rows: tuple[AttackRow, ...], isolates: bool) -> Refusal | None:
    if not rows:
        # Full isolation is proven for every peer, named or not.
        if isolates:
            return None
        return Refusal("no_flow", "the alert names no attacker and victim address to prove anything about")
    for row in rows:
        if not row.blocked:
            return Refusal("not_blocked", f"{row.flow} would stay open: {row.after}")
    if not any(row.was_open for row in rows):
        return Refusal("already_blocked", f"present policies already block the attack: {rows[0].before}")
    return None


def _kept_failure(dns: Iterable[KeptRow], protected: tuple[str, ...]) -> Refusal | None:
    for row in dns:
        if row.status == "cut":
            return Refusal("dns_cut", f"DNS would be cut: {row.what}")
    if protected:
        return Refusal("protected_cut", f"protected peers would be cut: {', '.join(protected[:5])}")
    return None


def _attack_row(drops: Drops, cases: tuple[Case, ...], pair: AttackPair) -> AttackRow:
    dropped = drops.cut(pair.source, pair.destination)
    opened = None if dropped else next((case for case in cases if _open(case.after, pair, case.reading)), None)
    was = next((case for case in cases if _open(case.before, pair, case.reading)), None)
    return AttackRow(
        flow=pair.text(),
        before=_verdict_text((was or cases[0]).before, pair),
        after="dropped on the node" if dropped else _verdict_text((opened or cases[0]).after, pair),
        was_open=was is not None,
        blocked=opened is None,
    )


def _limit_rows(drops: Drops) -> tuple[AttackRow, ...]:
    """Ports that nodes limit, whoever attacks them: the flood's sources are no part of the claim."""
    return tuple(
        AttackRow(
            flow=f"any → {limit.victim} {limit.protocol}/{limit.port}",
            before="new connections without a limit on the node",
            after=f"at most {limit.per_source}/s per source and {limit.in_all}/s in all",
            was_open=True,
            blocked=True,
        )
        for limit in drops.limits
    )


def _open(view: ClusterView, pair: AttackPair, reading: IpBlockReading) -> bool:
    if pair.protocol is not None and pair.protocol not in PROTOCOLS:
        # The API defines policy for TCP, UDP and SCTP only; enforcers differ on the rest, so nothing is claimed.
        return True
    wanted = ALL_PORTS if pair.port is None else PortSet(((pair.port, pair.port),))
    allowed = pair_ports(view, span_of_address(pair.source), span_of_address(pair.destination), reading)
    return any(allowed[protocol] & wanted for protocol in PROTOCOLS if pair.protocol in (None, protocol))


def _verdict_text(view: ClusterView, pair: AttackPair) -> str:
    """The reason of an open reading where there is one, of the first reading otherwise."""
    reading = next((item for item in READINGS if _open(view, pair, item)), READINGS[0])
    protocol, port = pair.protocol or "TCP", pair.port
    if port is None and protocol in PROTOCOLS:
        protocol, port = _open_port(view, pair, reading)
    verdict = evaluate(view, Flow(pair.source, pair.destination, protocol, port or 0), reading)
    return f"{'open' if verdict.allowed else 'blocked'} ({verdict.text()})"


def _open_port(view: ClusterView, pair: AttackPair, reading: IpBlockReading) -> tuple[str, int]:
    allowed = pair_ports(view, span_of_address(pair.source), span_of_address(pair.destination), reading)
    for protocol in PROTOCOLS:
        if pair.protocol in (None, protocol) and allowed[protocol]:
            return protocol, allowed[protocol].example()
    return pair.protocol or "TCP", 0


def _still_open(claim: Claim, cases: tuple[Case, ...], settings: ResponseSettings) -> str | None:
    """The first thing still allowed to a pod that should be isolated, as a sentence, or none."""
    cells = cells_of(claim.after)
    resolvers = {span_of_address(text) for _, text in _dns_servers(claim.before, settings)} if claim.spares_dns else ()
    spared = PortSet.of((port, port) for port in settings.dns_ports)
    for pod in filter(None, map(claim.after.pod, claim.pods)):
        exempt = {span_of_address(text) for text in (*pod.ips, *pod.node_ips)}
        for direction, case in product(DIRECTIONS, cases):
            allowance = Allowance(case.after, pod, direction, case.reading)
            for cell in cells:
                kept = spared if direction == "Egress" and cell.span in resolvers else NO_PORTS
                if cell.span not in exempt and any(ports - kept for ports in allowance.ports(cell).values()):
                    way = "to" if direction == "Egress" else "from"
                    return f"{pod.key} would still be allowed traffic {way} {cell.pod or cell.span.address()}"
    return None


def _dns_rows(claim: Claim, cases: tuple[Case, ...], settings: ResponseSettings) -> Iterable[KeptRow]:
    servers = _dns_servers(claim.before, settings)
    for key in claim.pods:
        pod = claim.before.pod(key)
        for ip in pod.ips if pod is not None else ():
            same_family = [item for item in servers if (":" in item[1]) == (":" in ip)]
            for name, server in same_family:
                for port in settings.dns_ports:
                    for protocol in DNS_PROTOCOLS:
                        flow = Flow(ip, server, protocol, port)
                        yield KeptRow(what=f"{key} → {name} {protocol}/{port}", status=_kept(claim.drops, cases, flow))


def _dns_servers(view: ClusterView, settings: ResponseSettings) -> list[tuple[str, str]]:
    """Names and addresses of the resolvers, as enforcers see them: never the Service in front."""
    servers = [(pod.key, ip) for pod in dns_pods(view, settings) for ip in pod.ips]
    return servers + [(address, address) for address in settings.dns_addresses]


def dns_pods(view: ClusterView, settings: ResponseSettings) -> Iterable[Pod]:
    """The pods that the settings call resolvers."""
    for pod in view.pods:
        if pod.namespace == settings.dns_namespace and settings.dns_labels.items() <= dict(pod.labels).items():
            yield pod


def _kept(drops: Drops, cases: tuple[Case, ...], flow: Flow) -> Literal["kept", "cut", "closed"]:
    opened = [case for case in cases if evaluate(case.before, flow, case.reading).allowed]
    if not opened:
        return "closed"
    if drops.cut(flow.source, flow.destination):
        return "cut"
    return "kept" if all(evaluate(case.after, flow, case.reading).allowed for case in opened) else "cut"


def _peers_cut(claim: Claim, cases: tuple[Case, ...]) -> tuple[str, ...]:
    # Replicas with equal labels are under equal policies: one speaks for all.
    pods = {pod.key: pod for pod in map(claim.after.pod, claim.pods) if pod is not None}
    alike = {(pod.namespace, tuple(sorted(pod.labels.items())), pod.ports): key for key, pod in pods.items()}
    peers = [span_of_cidr(text) for text in claim.drops.peers()]
    lost = {pod.key for pod in claim.after.pods for ip in pod.ips if any(s.covers(span_of_address(ip)) for s in peers)}
    for case in cases:
        for key in alike.values():
            for direction in DIRECTIONS:
                lost.update(cut_peers(case.before, case.after, key, direction, case.reading))
    return tuple(sorted(lost - set(claim.pods)))
