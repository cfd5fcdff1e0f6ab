"""The work of ``sluicegate respond``: which cluster, and the responder as an agent wants it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from response.gateway import Gateway
from response.manifests import read_policies
from response.responder import Responder
from schemas.action import Action
from schemas.inventory import InventoryObject
from schemas.policy.networkpolicy import NetworkPolicy
from schemas.response import ResponseDecision
from sluicegate.expiry import ExpiryLoop
from sluicegate.problems import CommandProblem
from sluicegate.proposals import InventoryGateway
from sluicegate.settings import Settings
from stream.responder_worker import make_service
from stream.service import Service, run_service
from stream.structured_logs import Level, configure_logs

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
        ClusterError, CommandProblem, PolicyError: the cluster or a file cannot be used.
    """
    gateway, identity = _gateway(plan)
    configure_logs(plan.log_level)
    log.info("cluster", view="inventory" if identity is not None else "kubernetes", name=plan.cluster)
    responder = Responder(gateway, settings.response, plan.cluster)

    async def respond(decision: ResponseDecision) -> Sequence[Action]:
        # The cluster client blocks; the agent's loop must go on answering health checks.
        return await asyncio.to_thread(responder.respond, decision, _now())

    expiry = ExpiryLoop(settings.stream.kafka, lambda: responder.expire(_now()))

    def make() -> Service:
        if identity is None:
            expiry.start()
        return make_service(settings.stream, respond, identity)

    return run_service("sluicegate respond", settings.stream, make)


def _now() -> float:
    return time.time()  # noqa: TID251 - when a step is taken; what is decided depends on event time


def _gateway(plan: RespondPlan) -> tuple[Gateway, Callable[[InventoryObject], None] | None]:
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
        return KubeGateway(plan.kubeconfig, plan.context), None
    known = InventoryGateway(_policies(plan.policies))
    return known, known.add


def _policies(path: Path | None) -> tuple[NetworkPolicy, ...]:
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
