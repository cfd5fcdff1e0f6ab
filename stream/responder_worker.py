"""`sluicegate respond`: the agents that carry out decisions and commands, in a process with its own rights."""

from collections.abc import Callable
from typing import Any, TypeVar

from schemas.edge import Edge
from schemas.incident import Incident
from schemas.inventory import InventoryObject
from schemas.topics import EDGES, INCIDENTS
from schemas.word import Word
from stream.agents.command import CommandRole, Obedient
from stream.agents.respond import Responder, RespondRole
from stream.agents.watch import Watcher, WatchRole
from stream.identity_feed import IdentityFeed
from stream.roles import AnyRole
from stream.service import Service
from stream.settings import StreamSettings
from stream.telemetry import Telemetry, make_telemetry
from stream.topic_feed import Apply, TopicFeed

W = TypeVar("W", bound=Word)


def make_service(
    settings: StreamSettings,
    responder: Responder,
    obey: Obedient,
    identity: Callable[[InventoryObject], None] | None = None,
    telemetry: Telemetry | None = None,
    watcher: Watcher | None = None,
    edges: Callable[[Edge], None] | None = None,
    incidents: Callable[[Incident], None] | None = None,
) -> Service:
    """The responder as a service, to be run by `run_service` or inside another loop.

    Args:
        settings: all of the stream's settings.
        responder: carries out one decision; see `stream.agents.respond.Responder`.
        obey: carries out one command.
        identity: takes each object of inventory.v1, before the first decision and whenever one comes.
        telemetry: where it counts.
        watcher: takes what packets show of containments; None: nobody verifies them.
        edges: takes each edge of edges.v1, before the first decision and whenever one comes.
        incidents: takes each revision of incidents.v1 likewise.
    """
    feed = None
    if identity is not None:
        tell = identity
        feed = IdentityFeed(settings.kafka, lambda _offset, _time, item: None if item is None else tell(item))
    roles: list[AnyRole] = [RespondRole(responder), CommandRole(obey)]
    if watcher is not None:
        roles.append(WatchRole(watcher))
    feeds: list[TopicFeed[Any]] = []
    if edges is not None:
        feeds.append(TopicFeed(settings.kafka, EDGES, Edge, _given_to(edges)))
    if incidents is not None:
        feeds.append(TopicFeed(settings.kafka, INCIDENTS, Incident, _given_to(incidents)))
    return Service(settings, roles, telemetry or make_telemetry(), feed, feeds)


def _given_to(take: Callable[[W], None]) -> Apply[W]:
    """What hands on each record that can be read."""
    return lambda _offset, _time, word: None if word is None else take(word)
