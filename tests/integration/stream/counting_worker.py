"""A worker process with counting stages.

`python -m …counting_worker BOOTSTRAP PREFIX CHECKPOINT_S AGENTS QUIET_S [DIES_AT]`

With DIES_AT it kills itself (SIGKILL) when that checkpoint's chunks are durable and its manifest is not.
With TAKEOVER_S in the environment the broker takes so many seconds to say where a partition begins and ends.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Collection, Sequence
from typing import Any

from schemas.event_codec import EventMessage
from schemas.state import SnapshotManifest
from stream import checkpointer
from stream.agents.detect import DetectRole
from stream.checkpoint import encode_manifest
from stream.offset_view import OffsetView
from stream.records import Outgoing
from stream.structured_logs import configure_logs
from stream.worker import run
from tests.integration.stream.counting import STAGES, STUCK, make_settings


def die_at(manifest_number: int) -> None:
    """Put a SIGKILL in the place of a manifest."""
    written = 0

    def encode_or_die(manifest: SnapshotManifest) -> bytes:
        nonlocal written
        written += 1
        if written == manifest_number:
            os.kill(os.getpid(), signal.SIGKILL)
        return encode_manifest(manifest)

    vars(checkpointer)["encode_manifest"] = encode_or_die


async def process_or_hang(
    role: DetectRole, stage: Any, words: Sequence[EventMessage], partition: int
) -> Sequence[Outgoing]:
    """In the place of `DetectRole.process`."""
    if any(word.header.node == STUCK for word in words):
        await asyncio.Event().wait()
    return await _process(role, stage, words, partition)


_process = DetectRole.process


def take_over_slowly(seconds: float) -> None:
    """Let every takeover take so long."""
    spans = OffsetView.spans

    async def say_slowly(self: OffsetView, topic: str, partitions: Collection[int]) -> Any:
        await asyncio.sleep(seconds)
        return await spans(self, topic, partitions)

    OffsetView.spans = say_slowly  # type: ignore[method-assign]


if __name__ == "__main__":
    configure_logs("info")
    DetectRole.process = process_or_hang  # type: ignore[method-assign,assignment]
    take_over_slowly(float(os.environ.get("TAKEOVER_S", "0")))
    if len(sys.argv) > 6:
        die_at(int(sys.argv[6]))
    sys.exit(
        run(
            make_settings(
                sys.argv[1], sys.argv[2], checkpoint_interval_s=float(sys.argv[3]), quiet_s=float(sys.argv[5])
            ),
            STAGES,
            sys.argv[4].split(","),
        )
    )
