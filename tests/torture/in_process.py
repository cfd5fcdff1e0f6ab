"""What must not change the answer without any broker: how rows are cut into messages, and how messages are fed."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from schemas.alert import Alert
from schemas.event_codec import EventMessage, write_file
from schemas.incident import Incident
from tests.torture.answer import Answer, Replayed, differences, replayed
from tests.torture.inputs import Log
from tests.torture.recut import by_rows, shuffled

ROWS = (1, 7, 50, 400, 2000, 4000)  # rows of a kind in a message, at most
FEEDS = (1, 2, 7, 64)  # messages fed at once
SHUFFLES = 3
_SHOWN = 5


def batches(log: Log, wanted: Replayed, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the comparison for each size of message and of feed, and for seconds in shuffled parts."""
    for rows in ROWS:
        yield _compared(f"at most {rows:,} rows a message", by_rows(log.messages(), rows), 64, wanted)
    for feed in FEEDS[:-1]:
        yield _compared(f"{feed} messages at once", log.messages(), feed, wanted)
    for number in range(SHUFFLES):
        what = f"1 to 5 parts a second, shuffled ({number + 1})"
        yield _compared(what, shuffled(log.messages(), seed + number), 64, wanted)


def _compared(what: str, messages: Iterable[EventMessage], feed: int, wanted: Replayed) -> dict[str, Any]:
    run = replayed(messages, feed)
    return {
        "what": what,
        "messages": run.messages,
        "seconds": round(run.seconds, 1),
        **_told(wanted.answer, run.answer),
    }


async def replay_command(log: Log, wanted: Replayed) -> dict[str, Any]:
    """Compare what ``sluicegate replay`` writes for a file of the same events."""
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory(prefix="sluicegate-torture-") as folder:
        events, written = Path(folder) / "events.sge", Path(folder) / "found.jsonl"
        with events.open("wb") as file:
            messages = write_file(file, log.messages())
        begun = loop.time()
        command = [sys.executable, "-m", "sluicegate", "replay", str(events), "--output", str(written)]
        child = await asyncio.create_subprocess_exec(
            *command, cwd=folder, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        try:
            _, said = await child.communicate()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        found = Answer()
        for line in written.read_bytes().splitlines() if written.exists() else ():
            word = Incident if orjson.loads(line)["type"] == "incident" else Alert
            found.add(word.decode(line), line)
        size = events.stat().st_size
    seconds = round(loop.time() - begun, 1)
    lines = [f"exit code {child.returncode}: {said.decode('utf-8', 'replace')[-300:]}"] if child.returncode else []
    told = _told(wanted.answer, found, lines)
    return {"what": "sluicegate replay", "messages": messages, "event_bytes": size, "seconds": seconds, **told}


def _told(wanted: Answer, found: Answer, lines: list[str] | None = None) -> dict[str, Any]:
    lines = [*(lines or ()), *differences(wanted, found)]
    return {"alerts": len(found.alerts), "incidents": len(found.incidents), "differences": len(lines),
            "first_differences": lines[:_SHOWN]}  # fmt: skip
