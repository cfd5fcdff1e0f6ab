"""What every live source is: something on this node that is listened to, second by second.

Several work in one exporter at once; their rows leave together, as one node's second. ``exporter/live.py`` calls
them, all from one thread: ``open``, then ``collect`` several times a second and ``close`` once for each cut, then
``shut``. The contract suite is ``tests/contract/test_live_sources.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from exporter.privileges import Privilege
from exporter.second import Second
from exporter.settings import ExporterSettings
from schemas.events import Capability


class SourceError(RuntimeError):
    """A source cannot begin; one line that names what is missing and the remedy."""


@dataclass
class SourceState:
    """How a source stands, for logs and metrics.

    Attributes:
        packets: read so far.
        lost_packets: dropped by the kernel so far.
        interfaces: names of what is watched.
        notes: what went wrong, one line each.
    """

    packets: int = 0
    lost_packets: int = 0
    interfaces: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)


class LiveSource(Protocol):
    """A live source.

    Attributes:
        name: what headers call it.
        needs: privileges without which it cannot begin.
        keeps: those of them that it needs afterwards too; all others are given away.

    Args:
        settings: of the exporter.
        node_hash: tells flow ids of nodes apart.
        began: when the exporter starts, ns since epoch.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Privilege]]
    keeps: ClassVar[frozenset[Privilege]]

    def __init__(self, settings: ExporterSettings, node_hash: int, began: int) -> None: ...

    @property
    def capabilities(self) -> Capability:
        """What it can fill, known before it is opened."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What it cannot know, in words; headers carry them."""

    @property
    def interfaces(self) -> Sequence[str]:
        """Names of the numbers in the interface columns of the last ``close``; the first is empty."""

    @property
    def next_due(self) -> int | None:
        """The next cut at which a time-out may fire; a cut before it without news need not be closed."""

    @property
    def busy(self) -> bool:
        """So much waits to be collected that the next look should not be waited for."""

    def open(self) -> None:
        """Begin to listen.

        Raises:
            SourceError: it cannot; nothing stays open.
        """

    def collect(self, cut: int, now: int) -> None:
        """Take in what has come, without waiting.

        Args:
            cut: end of the second that is open; what belongs to later ones is kept for them.
            now: ns since epoch; a later time is not believed.
        """

    def close(self, cut: int, final: bool = False) -> Second:
        """End a second; ``final``: no more will come, everything ends. Cuts ascend."""

    def state(self) -> SourceState:
        """Return how it stands."""

    def shut(self) -> None:
        """Let go of everything; also after an error, at any time."""
