"""`sluicegate respond`: the agent that carries out decisions, in a process of its own with its own rights."""

from collections.abc import Callable

from schemas.inventory import InventoryObject
from stream.agents.respond import Responder, RespondRole
from stream.identity_feed import IdentityFeed
from stream.service import Service, run_service
from stream.settings import StreamSettings
from stream.telemetry import make_telemetry


def make_service(
    settings: StreamSettings, responder: Responder, identity: Callable[[InventoryObject], None] | None = None
) -> Service:
    """The responder as a service, to be run by `run` or inside another loop."""
    feed = None
    if identity is not None:
        tell = identity
        feed = IdentityFeed(settings.kafka, lambda _offset, _time, item: None if item is None else tell(item))
    return Service(settings, [RespondRole(responder)], make_telemetry(), feed)


def run(
    settings: StreamSettings, responder: Responder, identity: Callable[[InventoryObject], None] | None = None
) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code (see `stream.service.run_service`).

    Args:
        settings: all of the stream's settings.
        responder: carries out one decision; see `stream.agents.respond.Responder`.
        identity: takes each object of inventory.v1, before the first decision and whenever one comes.
    """
    return run_service("sluicegate respond", settings, lambda: make_service(settings, responder, identity))
