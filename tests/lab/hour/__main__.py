"""Record the benign hour, as root: `python -m tests.lab.hour [--seconds N] --into FOLDER`."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from tests.lab.hour import clients, servers
from tests.lab.hour.nodes import NodeCapture, Nodes
from tests.lab.hour.servers import Town

ROLLOUT, BACK = 1 / 5, 3 / 5  # of the hour; a rollout replaces one pod a minute
BACKUPS, RENEWAL = 1 / 12, 2 / 5


def _plan(town: Town, seconds: float) -> list[tuple[float, Callable[[], None]]]:
    """What happens once, as (seconds after the beginning, what is done), in order."""
    probes = clients.start(town)
    plan: list[tuple[float, Callable[[], None]]] = [
        (BACKUPS * seconds, lambda: clients.backup(town)), (RENEWAL * seconds, lambda: servers.renew_certificate(town)),
    ]  # fmt: skip
    turns = ((ROLLOUT, 0, "web-1", "web-3", "web-2"), (ROLLOUT, 60, "web-2", "web-4", "web-3"),
             (BACK, 0, "web-3", "web-1", "web-4"), (BACK, 60, "web-4", "web-2", "web-1"))  # fmt: skip
    for part, later, old, new, stay in turns:
        steps = clients.replace(town, probes, old, new, stay)
        plan += [(part * seconds + later + at, step) for at, step in steps]
    return sorted(plan, key=lambda step: step[0])


def record(seconds: float, folder: Path) -> None:
    """Play the hour, with a capture on each node in `folder`."""
    (folder / "town").mkdir(parents=True)
    with Nodes() as lab:
        town = Town(lab, folder / "town")
        servers.open_town(town)
        capture = NodeCapture(lab, folder)
        capture.start()
        begun = time.monotonic()
        plan = _plan(town, seconds)
        print(f"recording for {seconds:.0f} s", flush=True)
        for at, step in [*plan, (seconds, lambda: None)]:
            time.sleep(max(0.0, begun + at - time.monotonic()))
            step()
        capture.stop()


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # lets every `with` clean up


def main() -> int:
    """Record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--into", type=Path, required=True, help="folder for the captures; made, must not exist")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    record(options.seconds, options.into)
    return 0


if __name__ == "__main__":
    sys.exit(main())
