"""Which of the two demos runs, and the line that says so, first and last."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from types import FrameType

from sluicegate.demo_broker import run_on_broker
from sluicegate.demo_embedded import run_embedded
from sluicegate.demo_place import CACHE, demo_case
from sluicegate.demo_screen import DemoScreen
from sluicegate.local_broker import LocalBroker, missing_tools
from sluicegate.settings import Settings
from sluicegate.terminal import cell, console

BROKER_VARIABLE = "SLUICEGATE_KAFKA"


def run_demo(settings: Settings, *, embedded: bool, speed: float, case: Path | None) -> bool:
    """Run the demo; tell whether every expected alert came.

    Raises:
        BrokerError, ConnectionProblem, CommandProblem: with the remedy.
    """
    # A closed terminal or a supervisor must leave as little behind as Ctrl-C does.
    signal.signal(signal.SIGTERM, _interrupt)
    screen = DemoScreen(console(), demo_case(case))
    given = os.environ.get(BROKER_VARIABLE, "")
    missing = [] if given else missing_tools(CACHE)
    if embedded or missing:
        return _embedded(settings, screen, missing if not embedded else [])
    if given:
        name = f"Kafka at {given}"
        screen.out.print(cell(f"Sluicegate demo on {name} ({BROKER_VARIABLE})", "bold"))
        found = asyncio.run(run_on_broker(settings, given, screen, speed))
    else:
        name = "a real Kafka, started for it"
        screen.out.print(cell(f"Sluicegate demo on {name}", "bold"))
        with LocalBroker(CACHE, progress=screen.progress) as broker:
            found = asyncio.run(run_on_broker(settings, broker.bootstrap, screen, speed))
            screen.progress("cleaning up: stopping Kafka")
    _last(screen, name, found)
    return found


def _embedded(settings: Settings, screen: DemoScreen, missing: list[str]) -> bool:
    name = "the embedded composition, no broker"
    screen.out.print(cell(f"Sluicegate demo on {name}", "bold"))
    for line in missing:
        screen.out.print(cell(f"No local Kafka: {line}", "yellow"))
    found = run_embedded(settings, screen)
    _last(screen, name, found)
    return found


def _last(screen: DemoScreen, name: str, found: bool) -> None:
    verdict = "every expected alert came" if found else "not everything expected came"
    screen.out.print(cell(f"This ran on {name}: {verdict}.", "bold"))


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
