"""The work of ``sluicegate node-agent``."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import structlog

from response.node.bounds import Bounds
from response.node.enforcer import NodeEnforcer
from response.node.facts import NodeFacts, read_facts
from response.node.nft import NodeTables
from response.node.settings import NodeAgentSettings
from response.signing import Verifier, load_operators
from sluicegate.node_settings import EnforcingSettings
from sluicegate.problems import CommandProblem
from sluicegate.terminal import note
from stream.connection import ConnectionProblem
from stream.health import HealthServer
from stream.node_agent import NodeAgent, NodeName
from stream.node_telemetry import make_registry
from stream.structured_logs import Level, configure_logs
from stream.topics_admin import check_topics

log = structlog.get_logger("sluicegate.node_agent")

_RESOLVERS = Path("/etc/resolv.conf")


@dataclass(frozen=True)
class NodeAgentPlan:
    """What the command line asked for; ``node`` empty: the host's name."""

    node: str
    cluster: str
    log_level: Level


def run_node_agent(settings: EnforcingSettings, plan: NodeAgentPlan) -> None:
    """Enforce until SIGTERM or SIGINT.

    Raises:
        CommandProblem, KeyFileError, ConnectionProblem, TopicMismatch: each with its remedy.
    """
    keys = settings.response.node_agent.public_keys_file
    if keys is None:
        message = (
            "response.node_agent.public_keys_file is not set: without the responder's public key every command would "
            "be refused; 'sluicegate keys new' makes one"
        )
        raise CommandProblem(message)
    configure_logs(plan.log_level)
    bounds = settings.response.node_agent
    # A command is fresh for as long as it may last: a node that was down still has to hear it.
    verifier = Verifier(load_operators(keys), fresh_s=bounds.max_timeout_s)
    node = plan.node or socket.gethostname()
    tables = _tables(bounds)
    enforcer = NodeEnforcer(tables, verifier, Bounds(bounds).with_addresses(()), plan.cluster, node)
    asyncio.run(_run(settings, NodeName(plan.cluster, node), enforcer, tables))
    if bounds.stop == "remove":
        enforcer.remove()


def run_uninstall(settings: EnforcingSettings) -> None:
    """Remove what is ours from the kernel.

    Raises:
        ToolError: it cannot be removed.
    """
    _tables(settings.response.node_agent).remove()
    note("nothing of ours is in this node's tables")


def never_addresses(environment: Mapping[str, str], resolvers: Path = _RESOLVERS) -> tuple[str, ...]:
    """Addresses that this node itself depends on: the API server's Service, and its resolvers."""
    texts = [environment.get("KUBERNETES_SERVICE_HOST", "")]
    try:
        lines = [line.split() for line in resolvers.read_text(errors="replace").splitlines()]
    except OSError:
        lines = []
    texts += [line[1] for line in lines if len(line) > 1 and line[0] == "nameserver"]
    return tuple(text for text in texts if _is_address(text))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _tables(settings: NodeAgentSettings) -> NodeTables:
    return NodeTables(settings.max_entries, bridge=settings.bridge)


def _now() -> float:
    return time.time()  # noqa: TID251 - when entries expire


async def _run(settings: EnforcingSettings, name: NodeName, enforcer: NodeEnforcer, tables: NodeTables) -> None:
    kafka = settings.stream.kafka
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await check_topics(kafka, settings.stream.topics)
    except ConnectionProblem as error:
        # What is in the kernel must be looked after whatever the broker does.
        log.warning("the topics are not checked", error=str(error))

    def facts() -> NodeFacts:
        return read_facts(tables.flowtables())

    agent = NodeAgent(kafka, name, enforcer, facts, never_addresses(os.environ), _now)
    health = HealthServer(settings.stream.health, make_registry(agent), list, agent.problems)
    port = await health.start()
    log.info("started", cluster=name.cluster, node=name.node, health_port=port)
    try:
        await agent.run(stop)
    finally:
        await health.stop()
