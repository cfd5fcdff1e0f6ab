"""A worker process with counting stages.

`python -m …counting_worker BOOTSTRAP PREFIX CHECKPOINT_S AGENTS QUIET_S [DIES_AT]`

With DIES_AT it kills itself (SIGKILL) when that checkpoint's chunks are durable and its manifest is not.
"""

import os
import signal
import sys

from schemas.state import SnapshotManifest
from stream import checkpointer
from stream.checkpoint import encode_manifest
from stream.structured_logs import configure_logs
from stream.worker import run
from tests.integration.stream.counting import STAGES, make_settings


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


if __name__ == "__main__":
    configure_logs("info")
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
