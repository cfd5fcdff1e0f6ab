"""The detector contract.

A detector is a class with ``meta``, a ``Config``, the features it needs, and ``evaluate``. It keeps no
windows of its own. It is found by its module: a file in ``detectors/rules`` or ``detectors/models``
that defines one subclass whose ``meta.id`` is the file's name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from detectors.features import Feature
from detectors.index import I64
from detectors.names import hash_one
from detectors.recent_entrances import Entrance
from detectors.round_frames import RoundFrames
from detectors.table import SpaceTable
from detectors.tally import NodeTally, TallyRows
from schemas.addresses import unpack
from schemas.events import Capability
from schemas.finding import DataQuality, Endpoint, Finding, Severity
from schemas.identity import IdentityTable

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Meta:
    """What is true of a detector whatever it is configured to."""

    id: str
    title: str
    stage: Literal[1, 2]
    severity: Severity
    techniques: tuple[str, ...]
    needs: Capability
    blind: str  # said once in data_quality where a source lacks a needed capability
    response: str | None  # action suggested by default


class DetectorConfig(BaseModel):
    """Limits of one detector; every field has a unit and a reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(True, description="false: not run, and not counted among what a source leaves blind")


@dataclass(frozen=True)
class KeyView:
    """The keys of one space that were touched in the ticks being closed.

    ``rows`` orders the keys; every array that a method returns has one entry per key. Sums only grow
    when their key is touched, so a limit can be newly exceeded by touched keys alone.
    """

    table: SpaceTable
    slots: I64
    ticks: I64
    nodes: Sequence[str]  # names by number; stage 2: one empty name
    node_numbers: I64
    capabilities: I64  # Capability bits of the source of each key
    extra: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)  # what only the present tick knows
    _read: dict[Any, npt.NDArray[Any]] = field(default_factory=dict)  # what was asked for already

    def _once(self, key: Any, read: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        if key not in self._read:
            self._read[key] = read()
        return self._read[key]

    def __len__(self) -> int:
        return len(self.slots)

    def value(self, feature: Feature) -> I64:
        """Return the feature's window value per key, int64."""
        return self._once(feature, lambda: self.table.read(feature, self.slots))

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return an identity column per key."""
        return self._once(name, lambda: self.table.column(name, self.slots))

    def can_see(self, needs: Capability) -> Mask:
        """Tell per key whether its source has all needed capabilities."""
        seen: Mask = (self.capabilities & int(needs)) == int(needs)
        return seen

    def since(self) -> I64:
        """Return the tick in which each key was first seen, s since epoch."""
        return self._once("since", lambda: self.table.since(self.slots))

    def node(self, row: int) -> str:
        """Return the name of a key's node."""
        return self.nodes[int(self.node_numbers[row])]

    def address(self, name: str, row: int) -> str:
        """Return an address column of one key as text."""
        return unpack(bytes(self.column(name)[row]))


@dataclass(frozen=True)
class WorkloadRows:
    """Rows of the minutes that closed in this tick (``schemas.rollups.WORKLOAD``).

    Ordered by (minute, address, node); ``address`` is uint8 of shape (n, 16), ``node`` text, others int64.
    """

    columns: Mapping[str, npt.NDArray[Any]]

    def __len__(self) -> int:
        return len(self.columns["minute"])

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return one column."""
        return self.columns[name]


def _no_sources(_dst: bytes) -> list[tuple[str, int, int]]:
    return []


def _no_senders(_dst: bytes) -> list[tuple[str, int]]:
    return []


def _no_entrances(_dst: bytes, _since: int) -> list[Entrance]:
    return []


def _nobody(_node: str, _interface: str) -> str:
    return ""


def _no_interfaces(_node: str) -> tuple[str, ...]:
    return ()


def _not_seen(_node: int, _src: bytes, _dst: bytes | None, _service: int | None) -> list[str]:
    return []


@dataclass(frozen=True)
class TickView:
    """What ``evaluate`` sees: the touched keys of each space, and who had which address."""

    spaces: dict[str, KeyView]
    identities: IdentityTable
    quality: dict[str, DataQuality]  # by node name; stage 2: under the empty name
    workloads: WorkloadRows | None = None
    # 16-byte victim to (source, attempts, established), most active first; stage 2
    top_sources: Callable[[bytes], list[tuple[str, int, int]]] = _no_sources
    suspects: frozenset[str] = frozenset()  # addresses that rules named lately; stage 2
    model_findings: tuple[Finding, ...] = ()  # what detectors of lower order said of this tick; stage 2
    # 16-byte victim to (sender, packets) of floods of packets, most active first; stage 2
    top_senders: Callable[[bytes], list[tuple[str, int]]] = _no_senders
    tallies: TallyRows | None = None  # what detectors counted in ``observe`` for their stage 2; stage 2
    # 16-byte victim and a tick to by which interfaces it was flooded since, the busiest first; stage 2
    entrances: Callable[[bytes, int], list[Entrance]] = _no_entrances
    # Node and interface to the address of the pod behind it, as the node said, empty where it did not; stage 1
    behind: Callable[[str, str], str] = _nobody
    # Node's number, packed source, destination and service (none: any) to the interfaces by which such packets entered
    # in this tick; stage 1
    entered_by: Callable[[int, bytes, bytes | None, int | None], list[str]] = _not_seen
    # Node to its interfaces that lead to pods, as the node said; stage 1
    leading: Callable[[str], Iterable[str]] = _no_interfaces

    def space(self, name: str) -> KeyView | None:
        """Return the touched keys of a space; none where no key was touched."""
        view = self.spaces.get(name)
        return view if view is not None and len(view) else None

    def roles(self, ip: str, tick: int) -> tuple[str, ...]:
        """Return the roles that an address had at a tick, as declared (``schemas.roles``); most have none."""
        return self.identities.roles(ip, tick)

    def sender(self, node: str, interface: str, tick: int, told: str = "", **more: Any) -> Endpoint | None:
        """Return the pod behind an interface of a node at a tick; none where nobody says whose it is.

        Args:
            node: name.
            interface: name.
            tick: s since epoch.
            told: address that the node gave for the pod, where it is known already.
            more: of the endpoint.
        """
        item = self.identities.pods.behind(node, interface, tick)
        ip = item.ips[0] if item is not None and item.ips else told or self.behind(node, interface)
        return self.endpoint(ip, tick, interface=interface, **more) if ip else None

    def interface_of(self, node: str, hashed: int) -> str:
        """Return the interface of a node that has a hash (``detectors.names``) and leads to a pod, or an empty text."""
        names = (*self.identities.pods.interfaces(node), *self.leading(node))
        return next((name for name in names if hash_one(name) == hashed), "")

    def endpoint(self, ip: str, tick: int, **more: Any) -> Endpoint:
        """Return an endpoint with the identity it had at a tick."""
        return self.identities.endpoint(ip, tick, **more)


class Detector(ABC):
    """One detector.

    The engine calls ``evaluate`` once per closed tick (or once for the ticks of several nodes that close
    together) with the features of all touched keys; it runs synchronously on the hot path and may not
    block. It must be a function of its arguments and of state that ``snapshot`` returns. An exception
    is a bug and stops the worker; bad input never reaches a detector.
    """

    meta: ClassVar[Meta]
    Config: ClassVar[type[DetectorConfig]] = DetectorConfig
    # Stage 2 evaluates ascending: rules, then models (they must not learn from attacks), then what reads models.
    order: ClassVar[int] = 0
    # Raised when ``snapshot`` means something else than before: older state is then left aside.
    state_version: ClassVar[int] = 1

    def __init__(self, config: DetectorConfig | None = None) -> None:
        self.config = config if config is not None else self.Config()

    @abstractmethod
    def features(self) -> Sequence[Feature]:
        """Return what the engine must compute for this detector."""

    def observe(self, frames: RoundFrames) -> None:  # noqa: B027, most detectors need nothing but features
        """Look at the rows of the ticks being closed, before ``evaluate`` is called for them; always in stage 1.

        For the few that follow sequences (claims about addresses, answers to one query). State is per node
        and bounded; rows of a node come in log order. By default nothing is looked at.
        """

    def tallies(self) -> Sequence[NodeTally]:
        """Return, once, what was counted in ``observe`` since the last call for ``evaluate`` of stage 2.

        For detectors of stage 2 that look at rows: theirs is the only ``observe`` that stage 1 calls besides its own.
        """
        return ()

    def refused(self) -> Mapping[int, int]:
        """Return how many claims and keys were too many to keep so far, by node; only nodes with any."""
        return {}

    @abstractmethod
    def evaluate(self, view: TickView) -> list[Finding]:
        """Return findings for the closed ticks, ordered by (tick, subject)."""

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return own state as arrays; most detectors have none."""
        return {}

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take in what ``snapshot`` gave. By default there is nothing to take in."""
        assert not state, f"{self.meta.id} was given state that it never gave"  # noqa: S101


def confidence(value: float, limit: float) -> float:
    """Return 0.5 at the limit, rising to 0.99 at ten times the limit, on a log scale.

    This project's own scale: how far past its limit a count is says how surely it is no accident.
    """
    if value <= limit or limit <= 0:
        return 0.5
    return round(min(0.99, 0.5 + 0.49 * float(np.log10(value / limit))), 3)
