"""`sluicegate respond`: the agents that carry out decisions and commands, in a process with its own rights."""

from collections.abc import Callable

from schemas.inventory import InventoryObject
from stream.agents.command import CommandRole, Obedient
from stream.agents.respond import Responder, RespondRole
from stream.identity_feed import IdentityFeed
from stream.service import Service
from stream.settings import StreamSettings
from stream.telemetry import Telemetry, make_telemetry


def make_service(
    settings: StreamSettings,
    responder: Responder,
    obey: Obedient,
    identity: Callable[[InventoryObject], None] | None = None,
    telemetry: Telemetry | None = None,
) -> Service:
    """The responder as a service, to be run by `run` or inside another loop."""
    feed = None
    if identity is not None:
        tell = identity
        feed = IdentityFeed(settings.kafka, lambda _offset, _time, item: None if item is None else tell(item))
    return Service(settings, [RespondRole(responder), CommandRole(obey)], telemetry or make_telemetry(), feed)
