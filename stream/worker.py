"""`sluicegate worker`: the agents detect, correlate, incidents and decide in one process."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from schemas.action import Action
from schemas.topics import ACTIONS
from stream.agents.correlate import CorrelateRole, CorrelateStage
from stream.agents.decide import DecideRole, DecideStage
from stream.agents.detect import DetectRole, DetectStage
from stream.agents.incidents import IncidentsRole, IncidentStage
from stream.identity_feed import IdentityFeed
from stream.inventory_log import InventoryLog
from stream.roles import AnyRole
from stream.service import Service, run_service
from stream.settings import StreamSettings
from stream.telemetry import Telemetry, make_telemetry
from stream.topic_feed import TopicFeed
from stream.watch_log import WatchLog

AGENTS = ("detect", "correlate", "incidents", "decide")


@dataclass(frozen=True)
class StageFactories:
    """How to make each stage; `detect` and `correlate` are given their input partition.

    `inventory` is what the stages ask for names; it is filled from inventory.v1. `watches` is what they ask for active
    containments; it is filled from actions.v1.
    """

    detect: Callable[[int], DetectStage]
    correlate: Callable[[int], CorrelateStage]
    incidents: Callable[[], IncidentStage]
    decide: Callable[[], DecideStage]
    inventory: InventoryLog | None = None
    watches: WatchLog | None = None


def make_service(settings: StreamSettings, stages: StageFactories, agents: Collection[str] = AGENTS) -> Service:
    """The worker as a service, to be run by `run` or inside another loop.

    Raises:
        ValueError: an agent that does not exist.
    """
    unknown = sorted(set(agents) - set(AGENTS))
    if unknown:
        message = f"unknown agent {unknown[0]!r}; there are {', '.join(AGENTS)}"
        raise ValueError(message)
    telemetry = make_telemetry()
    if stages.inventory is not None:
        telemetry.follow(telemetry.identities, stages.inventory.counts)
    roles = [role for role in _roles(stages, telemetry) if role.name in agents]
    identity = IdentityFeed(settings.kafka, stages.inventory.take) if stages.inventory is not None else None
    feeds = []
    if stages.watches is not None:
        telemetry.follow(telemetry.watches, stages.watches.counts)
        feeds.append(TopicFeed(settings.kafka, ACTIONS, Action, stages.watches.take))
    return Service(settings, roles, telemetry, identity, feeds)


def run(settings: StreamSettings, stages: StageFactories, agents: Collection[str] = AGENTS) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code (see `stream.service.run_service`)."""
    return run_service("sluicegate worker", settings, lambda: make_service(settings, stages, agents))


def _roles(stages: StageFactories, telemetry: Telemetry) -> list[AnyRole]:
    return [
        DetectRole(stages.detect, telemetry),
        CorrelateRole(stages.correlate, telemetry),
        IncidentsRole(stages.incidents, telemetry),
        DecideRole(stages.decide),
    ]
