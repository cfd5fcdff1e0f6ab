"""The work of ``sluicegate respond``: which cluster, and the responder as an agent wants it."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from response.edges import EdgeMemory
from response.gateway import WATCHED_KINDS, ClusterError, Gateway, LeaseStore, Watched
from response.lease import Candidate
from response.ledger import STANDING
from response.manifests import read_policies
from response.overdue import IncidentMemory, overdue_alert
from response.responder import Responder
from response.settings import CommandSettings
from response.signing import Verifier, load_operators
from schemas.action import Action
from schemas.command import Command
from schemas.inventory import InventoryObject
from schemas.policy.networkpolicy import PolicyObject
from schemas.response import ResponseDecision
from schemas.watch import WatchRow
from sluicegate.action_reader import read_ledger
from sluicegate.leadership import Leadership, make_candidate
from sluicegate.node_link import reach_nodes
from sluicegate.problems import CommandProblem
from sluicegate.proposals import InventoryGateway
from sluicegate.settings import Settings
from sluicegate.upkeep import UpkeepLoop, follow
from stream.responder_worker import make_service
from stream.service import Service, run_service
from stream.structured_logs import Level, configure_logs
from stream.telemetry import make_telemetry

log = structlog.get_logger("sluicegate.respond")

# Set by Kubernetes in every pod, and by whoever uses kubectl.
_CLUSTER_VARIABLES = ("KUBERNETES_SERVICE_HOST", "KUBECONFIG")
_MAX_POLICIES = 16 << 20


@dataclass(frozen=True)
class RespondPlan:
    """What the command line asked for."""

    kubeconfig: Path | None
    context: str | None
    no_cluster: bool
    policies: Path | None
    cluster: str
    log_level: Level


def run_respond(settings: Settings, plan: RespondPlan) -> int:
    """Run until told to stop; return the exit code.

    Raises:
        ClusterError, CommandProblem, ConnectionProblem, KeyFileError, PolicyError: what is needed cannot be used.
    """
    verifier = _verifier(settings.response.commands)
    candidate = make_candidate(settings.response.upkeep.lease)
    gateway, identity = _gateway(plan, candidate)
    configure_logs(plan.log_level)
    # One line for every request, and the Lease alone makes two every three seconds.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    log.info("cluster", view="inventory" if identity is not None else "kubernetes", name=plan.cluster)
    leader = None
    if candidate is not None and isinstance(gateway, LeaseStore):
        leader = Leadership(gateway, candidate)
        leader.wait(settings.stream.health)
    ledger, _ = asyncio.run(read_ledger(settings.stream.kafka, plan.cluster, _now()))
    log.info("ledger", containments=len(ledger.all()), standing=len(ledger.all(STANDING)))
    edges = EdgeMemory(plan.cluster, settings.response.edges_hours)
    acting, end_nodes = gateway, _nothing
    if identity is None:
        steps = settings.response.node_steps
        acting, end_nodes = reach_nodes(gateway, settings.stream.kafka, steps, plan.cluster, _fence(candidate))
    responder = Responder(acting, settings.response, plan.cluster, ledger, verifier, edges)
    telemetry = make_telemetry()

    def counted(actions: Sequence[Action]) -> Sequence[Action]:
        telemetry.note_steps([action.outcome for action in actions])
        proven = (action.answered_s for action in actions if action.outcome == "effective")
        telemetry.note_answered([seconds for seconds in proven if seconds is not None])
        telemetry.note_containments(Counter(item.phase for item in responder.ledger.all()))
        return actions

    incidents = IncidentMemory(plan.cluster)
    look = UpkeepLoop(
        settings.stream.kafka,
        lambda: counted((*responder.reconcile(_now()), *responder.watched((), _now()))),
        settings.response.upkeep.reconcile_s,
        lambda: responder.unfinished,
        lambda: responder.next_deadline - _now(),
        lambda action: overdue_alert(action, incidents.of(action.alert_id)),
    )

    async def respond(decision: ResponseDecision) -> Sequence[Action]:
        # The cluster client blocks; the agent's loop must go on answering health checks.
        done = counted(await asyncio.to_thread(responder.respond, decision, _now()))
        if any(action.outcome in ("proposed", "failed") for action in done):
            # It has a deadline now, which may be at once.
            look.wake()
        return done

    async def obey(command: Command) -> Sequence[Action]:
        return counted(await asyncio.to_thread(responder.obey, command, _now()))

    async def watched(rows: Sequence[WatchRow]) -> Sequence[Action]:
        return counted(await asyncio.to_thread(responder.watched, rows, _now()))

    def make() -> Service:
        if identity is None:
            look.start()
            if isinstance(gateway, Watched):
                if switch := settings.response.upkeep.kill_switch:
                    follow("kill switch", partial(gateway.kill_switch_changes, switch), look.wake)
                for kind in WATCHED_KINDS:
                    follow(kind, partial(gateway.changes, kind), look.wake)
                for name, changes in _dialect_changes(gateway).items():
                    follow(name, changes, look.wake)
        return make_service(settings.stream, respond, obey, identity, telemetry, watched, edges.take, incidents.take)

    try:
        return run_service("sluicegate respond", settings.stream, make)
    finally:
        end_nodes()
        if leader is not None:
            leader.release()


def _dialect_changes(gateway: Watched) -> Mapping[str, Callable[[], Iterator[None]]]:
    """What else may be watched; where the server does not say, the regular look has to do."""
    try:
        return gateway.dialect_changes()
    except ClusterError as error:
        log.warning("policies of other dialects are not watched", error=str(error))
        return {}


def _nothing() -> None:
    return


def _fence(candidate: Candidate | None) -> Callable[[], None]:
    """What raises ClusterError once this process may no longer change anything."""
    if candidate is None:
        return _nothing
    known = candidate
    return lambda: known.fence(time.monotonic())


def _verifier(commands: CommandSettings) -> Verifier:
    known = load_operators(commands.public_keys_file) if commands.public_keys_file is not None else {}
    return Verifier(known, commands.fresh_s)


def _now() -> float:
    return time.time()  # noqa: TID251 - when a step is taken; what is decided depends on event time


def _gateway(
    plan: RespondPlan, candidate: Candidate | None
) -> tuple[Gateway, Callable[[InventoryObject], None] | None]:
    """Return the cluster, and what takes inventory objects where it is known only from them."""
    named = plan.kubeconfig is not None or any(os.environ.get(name) for name in _CLUSTER_VARIABLES)
    if plan.no_cluster and plan.kubeconfig is not None:
        message = "--kubeconfig and --no-cluster exclude each other"
        raise CommandProblem(message)
    if named and not plan.no_cluster:
        from response.kube import KubeGateway

        if plan.policies is not None:
            message = "--policies is for use without a cluster: the cluster's own policies are read"
            raise CommandProblem(message)
        return KubeGateway(plan.kubeconfig, plan.context, fence=_fence(candidate)), None
    known = InventoryGateway(_policies(plan.policies))
    return known, known.add


def _policies(path: Path | None) -> tuple[PolicyObject, ...]:
    if path is None:
        return ()
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_POLICIES + 1)
        text = raw.decode()
    except OSError as error:
        message = f"{path}: cannot read the policies: {error.strerror}"
        raise CommandProblem(message) from None
    except UnicodeDecodeError:
        message = f"{path}: not UTF-8 text"
        raise CommandProblem(message) from None
    if len(raw) > _MAX_POLICIES:
        message = f"{path}: more than {_MAX_POLICIES} bytes"
        raise CommandProblem(message)
    return read_policies(text, str(path))
