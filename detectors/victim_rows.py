"""The rows of the rollup sections about victims from what the frames of one tick said of services and floods."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.floods import FLOOD_SUMS
from detectors.grouping import Grouping
from detectors.index import I64, positions
from detectors.kernels.grouping import best_by, sum_columns

Array = npt.NDArray[Any]
Columns = dict[str, Array]

CONNECTIONS = ("attempts", "established", "exchanged", "refused", "unanswered", "syn", "packets", "bytes")
VICTIM_SUMS = (*CONNECTIONS, *FLOOD_SUMS)
_PACKETS = ("udp_packets", "icmp_packets", "reflected_packets", "induced_questions")
_FLOOD = (*FLOOD_SUMS, "reflector_port")
COPY_SUMS = (*VICTIM_SUMS, "top_port_attempts")


def victim_rows(services: Columns, flood: Columns, frames: int) -> tuple[Columns, Grouping, Columns | None]:
    """Return the rows of the victim section, how services, then floods, are grouped into them, and the copies' rows.

    Args:
        services: ``dst``, ``dst_hash``, ``port``, ``copy`` and ``sums``, a row per service, copies apart.
        flood: the same and ``reflector_port``, a row per victim, copies apart.
        frames: that these are from; of one, services are distinct.

    Returns:
        Columns of ``VICTIM`` and ``VICTIM_FLOOD`` with ``dst_hash``, and, copies included, attempts as ``tried`` and
        packets of floods as ``flooded``; the grouping; columns of ``VICTIM_COPY``, none where there are no copies.
    """
    count = len(services["port"])
    victims = Grouping.equal(np.concatenate([services["dst_hash"], flood["dst_hash"]]))
    sums = np.zeros((len(victims.number), len(VICTIM_SUMS)), np.int64)
    sums[:count, : len(CONNECTIONS)] = services["sums"]
    sums[count:, len(CONNECTIONS) :] = flood["sums"]
    port = np.concatenate([services["port"], flood["port"]])
    copy = np.concatenate([services["copy"], flood["copy"]])
    attempts = sums[:count, 0].copy()
    if frames > 1 or copy.any():
        attempts = _by_service(victims.number[:count], port[:count], attempts)
    # A port that connections were opened to goes before one that was flooded.
    attempts = np.concatenate([attempts, np.full(len(flood["port"]), -1)])
    best = best_by(victims.number, attempts, port, len(victims))
    reflector = np.concatenate([np.zeros(count, np.int64), flood["reflector_port"]])
    answers = sums[:, VICTIM_SUMS.index("reflected_packets")] + sums[:, VICTIM_SUMS.index("induced_questions")]
    reflecting = best_by(victims.number, answers, reflector, len(victims))
    totals = sum_columns(victims.number, sums, len(victims))
    top = np.maximum(attempts[best], 0)
    tried = totals[:, VICTIM_SUMS.index("attempts")]
    flooded = np.sum([totals[:, VICTIM_SUMS.index(name)] for name in _PACKETS], axis=0)
    copies = None
    if copy.any():
        on_top = np.where(port == port[best][victims.number], sums[:, 0], 0)
        told = np.where(copy[:, None], np.column_stack([sums, on_top]), 0)
        copied = sum_columns(victims.number, told, len(victims))
        totals, top = totals - copied[:, :-1], top - copied[:, -1]
        copies = _copy_rows(copied)
    columns = {
        "dst": np.concatenate([services["dst"], flood["dst"]])[victims.first],
        "dst_hash": np.concatenate([services["dst_hash"], flood["dst_hash"]])[victims.first],
        "top_port": port[best], "top_port_attempts": top, "reflector_port": reflector[reflecting],
        "tried": tried, "flooded": flooded,
    }  # fmt: skip
    return columns | {name: totals[:, i] for i, name in enumerate(VICTIM_SUMS)}, victims, copies


def flood_rows(victims: Columns) -> Columns:
    """Return the columns of ``VICTIM_FLOOD`` of the victims that have any: few do."""
    sums = np.column_stack([victims[name] for name in _FLOOD])
    rows = positions(np.asarray(sums.any(axis=1)))
    return {"victim": rows, **{name: sums[rows, place] for place, name in enumerate(_FLOOD)}}


def with_floods(victims: Columns, floods: Columns | None) -> Columns:
    """Return columns of ``VICTIM`` with those of ``VICTIM_FLOOD``."""
    count = len(victims["dst"])
    columns = {name: np.zeros(count, np.int64) for name in _FLOOD}
    if floods is not None:
        for name, values in columns.items():
            values[floods["victim"]] = floods[name]
    return victims | columns


def _copy_rows(copied: I64) -> Columns:
    rows = positions(np.asarray(copied.any(axis=1)))
    return {"victim": rows, **{name: copied[rows, place] for place, name in enumerate(COPY_SUMS)}}


def _by_service(victim: Array, port: I64, attempts: I64) -> I64:
    """Return for each row the attempts of all rows of the same victim and port: pieces name services again."""
    services = Grouping(np.arange(len(port)), [victim.astype(np.int64), port])
    totals: I64 = services.total(attempts)[services.number]
    return totals


def no_services() -> Columns:
    """Return rows per service of nobody."""
    return {"dst": np.zeros((0, 16), np.uint8), "dst_hash": np.zeros(0, np.uint64), "port": np.zeros(0, np.int64),
            "copy": np.zeros(0, np.bool_), "sums": np.zeros((0, len(CONNECTIONS)), np.int64)}  # fmt: skip
