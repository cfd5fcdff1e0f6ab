"""One attack from its first packet to its last answered one, through every part for real, timed stage by stage."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from aiokafka.structs import ConsumerRecord

from schemas.action import Action
from schemas.alert import Alert, decode_alert_record
from schemas.event_codec import decode
from schemas.response import ResponseDecision
from tests.e2e.apiserver import ApiServer
from tests.e2e.enforcement import audit
from tests.e2e.enforcement.attacks import SITE, Attack
from tests.e2e.enforcement.lab_cluster import ECHO_PORT, LabCluster
from tests.e2e.enforcement.packets import Capture
from tests.e2e.enforcement.probers import Prober, now
from tests.e2e.enforcement.stack import Stack
from tests.lab import pods
from tests.lab.lab import wait_for
from tests.lab.pods import BY_NAME
from tests.lab.stage import Stage, cluster_dns

CAST = ("web", "api", "dns", "client1", "client2", "client3", "client4", "attacker")
# From the responder's word until the attack is said to go on all the same.
STOP_SECONDS = 10.0
# Five seconds for the enforcer, five of calm; a flow that goes on with few packets is told once a minute.
JUDGED_SECONDS = 100.0
VERDICTS = frozenset({"effective", "ineffective", "quiet", "unknown"})
# A busy client's pace, below what anybody would take for a flood.
NEIGHBOURLY_S = 0.1
# An attack whose packets have not been answered for so long is stopped.
QUIET_SECONDS = 3.0


# What makes a policy stop nothing; done to a lab before the attack.
FAULTS: dict[str, Callable[[LabCluster], None]] = {
    "enforcer stands still": lambda cluster: cluster.enforcer.pause(),
    "enforcer is dead": lambda cluster: cluster.enforcer.kill(),
    "bridge is not filtered": lambda cluster: cluster.filter_bridged(False),
    # The lab is made so: an enforcer learns at its start which families there are.
    "IPv6 is forgotten": lambda cluster: None,
}


def lab_options(attack: Attack, fault: str | None = None) -> dict[str, Any]:
    """What families the API server and the enforcer know of for an attack."""
    return {"dual": attack.ipv6, "ipv6": attack.ipv6 and fault != "IPv6 is forgotten"}


@dataclass(frozen=True)
class Timeline:
    """When each stage was reached, s since the epoch. `answered`: the last packet that came back to the attacker.

    `packet` is the attacker's first packet in the second that decided, so times from it are up to a second too long
    rather than too short.
    """

    packet: float
    events: float
    alert: float
    decision: float
    written: float
    told: float
    answered: float
    action: Action
    verdict: Action | None
    then: Action | None
    after: Action | None
    stopped: bool
    load: float

    def stages(self) -> dict[str, float]:
        """Seconds of each stage, and from packet to the last answer."""
        marks = {"packet": self.packet, "events": self.events, "alert": self.alert, "decision": self.decision,
                 "written": self.written, "answered": self.answered}  # fmt: skip
        names = list(marks)
        steps = {f"{one} to {two}": marks[two] - marks[one] for one, two in pairwise(names)}
        return {**steps, "packet to answered": self.answered - self.packet}


@dataclass(frozen=True)
class Played:
    """What came of one attack, and of the exchanges of its neighbours meanwhile."""

    timeline: Timeline
    exchanges: int
    failed: tuple[str, ...]

    def line(self) -> str:
        """What there is to say of one run."""
        stages = ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in self.timeline.stages().items())
        end = "stopped" if self.timeline.stopped else "goes on"
        verdict = self.timeline.verdict
        end += f", judged {verdict.outcome}: {verdict.message}" if verdict is not None else ", not judged"
        if self.timeline.then is not None:
            end += f", then {self.timeline.then.outcome}: {self.timeline.then.message}"
        if self.timeline.after is not None:
            end += f", and judged {self.timeline.after.outcome}: {self.timeline.after.message}"
        return f"{end}; {stages}; load {self.timeline.load:.1f}; {len(self.failed)} of {self.exchanges} failed"


def neighbours(cluster: LabCluster, attack: Attack) -> list[Prober]:
    """Legitimate traffic of everybody else: between pods, to and from outside, questions to the resolver."""
    web, api, dns = (BY_NAME[name].ip4 for name in ("web", "api", "dns"))
    cluster.serve("web", "api", pods.OUTSIDE)
    if attack.kind != "dns_tunnel":
        cluster_dns(Stage(cluster.lab))
    pairs = [
        ("client1", "fresh", web, ECHO_PORT), ("client1", "held", api, ECHO_PORT),
        ("client2", "asks", dns, 53), ("api", "fresh", web, ECHO_PORT), ("web", "held", api, ECHO_PORT),
        ("api", "fresh", SITE, ECHO_PORT), (pods.OUTSIDE, "fresh", api, ECHO_PORT),
    ]  # fmt: skip
    attacker = {attack.pod, BY_NAME[attack.pod].ip4}  # whom nobody may speak with any more
    return [cluster.prober(*pair, every=NEIGHBOURLY_S) for pair in pairs if not attacker & set(pair)]


def play(
    attack: Attack,
    cluster: LabCluster,
    bootstrap: str,
    folder: Path,
    judged_within: float = JUDGED_SECONDS,
    *,
    node_agent: bool = False,
) -> Played:
    """Run one attack on a running lab until it is stopped, or goes on after a response all the same.

    The product's own word on that, by packets as well, is waited for so many s. With an agent on the node, what a
    policy did not stop is waited for to be dropped there.

    Raises:
        TimeoutError: it was not detected, or nothing was done about it.
    """
    stage = Stage(cluster.lab)
    attack.prepare(stage, folder)
    others = neighbours(cluster, attack)
    with Stack(cluster, bootstrap, folder, node_agent=node_agent) as stack:
        capture = Capture(cluster.lab, folder, attack.pod, attack.victims)
        attack.begin(stage, folder)
        await_response(stack, attack)
        told = now()
        stopped = stopped_after(capture, told)
        load = os.getloadavg()[0]
        applied = first_applied(stack, attack)
        assert applied is not None
        verdict = await_verdict(stack, applied[1], judged_within)
        then = after = None
        if node_agent and verdict is not None and verdict.outcome == "ineffective":
            then = await_cut(stack, verdict.alert_id)
            stopped = stopped_after(capture, now())
            after = await_verdict(stack, then, judged_within) if then.outcome == "applied" else None
        capture.stop()
        timeline = _timeline(attack, stack, cluster.server, capture, (verdict, then, after), stopped, load)
    failed = [f"{prober.name} {exchange}" for prober in others for exchange in prober.failures()]
    return Played(timeline, sum(len(prober.exchanges()) for prober in others), tuple(failed))


def await_response(stack: Stack, attack: Attack) -> None:
    """Wait until something is applied against an attack. Raises TimeoutError, with all that was said."""
    try:
        wait_for(
            lambda: first_applied(stack, attack) is not None, f"a response to {attack.name}", attack.detected_within
        )
    except TimeoutError as error:
        alerts = [word for r in stack.records("alerts.v1") if isinstance(word := decode_alert_record(r.value), Alert)]
        actions = [Action.decode(record.value) for record in stack.records("actions.v1")]
        said = [f"{a.kind} {a.confidence} {[e.ip for e in a.attackers]}" for a in alerts]
        done = [f"{a.action} {a.outcome} {a.reason}: {a.message}" for a in actions]
        message = f"{error}; alerts: {said}; actions: {done}"
        raise TimeoutError(message) from None


def stopped_after(capture: Capture, told: float) -> bool:
    """Whether answers end within `STOP_SECONDS` of a response."""
    while now() < told + STOP_SECONDS + QUIET_SECONDS:
        if max(capture.seen().answered, default=0.0) < now() - QUIET_SECONDS:
            return True
        time.sleep(0.1)
    return False


def first_applied(stack: Stack, attack: Attack) -> tuple[ConsumerRecord, Action] | None:
    """The first step that was applied against an attack, and its record; none so far: none."""
    alerts = {alert.id for _, alert in _alerts(stack, attack)}
    for record in stack.records("actions.v1"):
        action = Action.decode(record.value)
        if action.outcome == "applied" and action.alert_id in alerts:
            return record, action
    return None


def await_verdict(stack: Stack, applied: Action, within: float) -> Action | None:
    """The first word of the verification on a step, waited for; none in time: none."""
    found: list[Action] = []

    def said() -> bool:
        told = [Action.decode(record.value) for record in stack.records("actions.v1")]
        told = [action for action in told if action.response_id == applied.response_id and action.at > applied.at]
        found[:] = [action for action in told if action.outcome in VERDICTS]
        return bool(found)

    try:
        wait_for(said, f"the verification of {applied.action}", within)
    except TimeoutError:
        return None
    return found[0]


def await_cut(stack: Stack, alert_id: str) -> Action:
    """What becomes of the cut on the node, waited for: it may be refused, as for a pod's way to its resolver.

    Raises:
        TimeoutError: nobody says anything of it; with what was said.
    """
    done: list[Action] = []

    def said() -> bool:
        told = [Action.decode(record.value) for record in stack.records("actions.v1")]
        done[:] = [action for action in told if action.alert_id == alert_id]
        return any(_settles(action) for action in done)

    try:
        wait_for(said, "the cut on the node", 20.0)
    except TimeoutError as error:
        message = f"{error}; {[f'{a.action} {a.outcome} {a.reason}: {a.message}' for a in done]}"
        raise TimeoutError(message) from None
    return next(action for action in done if _settles(action))


def _settles(action: Action) -> bool:
    return action.action == "cut_on_node" and action.outcome in ("applied", "refused", "failed")


def _alerts(stack: Stack, attack: Attack) -> list[tuple[ConsumerRecord, Alert]]:
    found = []
    for record in stack.records("alerts.v1"):
        alert = decode_alert_record(record.value)
        attackers = {end.ip for end in alert.attackers} if isinstance(alert, Alert) else set()
        if isinstance(alert, Alert) and alert.kind == attack.kind and attack.source in attackers:
            found.append((record, alert))
    return found


def _deciding(sent: Sequence[float], tick: int) -> float:
    """The first packet of the second that decided; where that was silence itself, the last one before."""
    return min((at for at in sent if tick - 1 <= at < tick), default=max(at for at in sent if at < tick))


def _timeline(
    attack: Attack,
    stack: Stack,
    server: ApiServer,
    capture: Capture,
    words: tuple[Action | None, Action | None, Action | None],
    stopped: bool,
    load: float,
) -> Timeline:
    verdict, then, after = words
    applied = first_applied(stack, attack)
    assert applied is not None
    record, action = applied
    decided, decision = next(
        (found, word)
        for found in stack.records("responses.v1")
        if (word := ResponseDecision.decode(found.value)).id == action.response_id
    )
    alerted, alert = next(
        (found, word)
        for found, word in _alerts(stack, attack)
        if (word.id, word.revision) == (decision.alert_id, decision.alert_revision)
    )
    events = [found for found in stack.records("events.v1") if decode(found.value).header.cut == alert.tick]
    seen = capture.seen()
    return Timeline(
        packet=_deciding(seen.sent, alert.tick),
        events=max(found.timestamp for found in events) / 1000,
        alert=alerted.timestamp / 1000,
        decision=decided.timestamp / 1000,
        written=audit.written(server, action.response_id, record.timestamp / 1000),
        told=record.timestamp / 1000,
        answered=max(seen.answered),
        action=action,
        verdict=verdict,
        then=then,
        after=after,
        stopped=stopped,
        load=load,
    )
