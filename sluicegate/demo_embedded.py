"""The demo without a broker: the same capture, the same composition, in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator

from exporter.chunks import CaptureReport
from exporter.sources.capture import read_messages
from schemas.event_codec import EventMessage
from sluicegate.composition import parts
from sluicegate.demo_screen import DemoScreen
from sluicegate.inputs import identities_of, read_inventory
from sluicegate.proposals import Proposals
from sluicegate.settings import Settings
from stream.pipeline import Pipeline

CLUSTER = "demo"
NODE = "node1"


def run_embedded(settings: Settings, screen: DemoScreen) -> bool:
    """Run the demo; tell whether every expected alert came."""
    folder = screen.case
    objects = read_inventory(folder.inventory) if folder.inventory is not None else []
    pipeline = Pipeline(parts(settings, identities_of(folder.inventory, objects)))
    proposals = Proposals(settings.response, CLUSTER, objects)
    screen.progress(f"replaying {folder.case.title}")

    def messages() -> Iterator[EventMessage]:
        for message in read_messages(folder.input, NODE, CLUSTER, settings.exporter, CaptureReport()):
            screen.counted.add(message)
            yield message

    begun = time.perf_counter()
    # One message at a time, so that each alert is shown when its second has passed.
    for output in pipeline.run(messages(), batch=1):
        for alert in output.alerts:
            screen.alert(alert)
        for decision in output.responses:
            for action in proposals.about(decision):
                screen.action(action)
    seconds = time.perf_counter() - begun
    return screen.summary(
        ["Embedded: no broker, so there is no time from packet to durable alert to measure."], seconds
    )
