"""Identities that flow logs carry beside their rows, as inventory words, each told once."""

from __future__ import annotations

from pydantic import ValidationError

from detectors.mixing import hash_text
from exporter.chunks import CaptureReport
from schemas.addresses import pack, unpack
from schemas.inventory import InventoryObject, Labels

_ADDRESSES = 65_536  # addresses remembered; the oldest leaves, and is told again if it comes back
_STATEMENTS = 1 << 18  # in all; above it a log with forged names could fill the memory of whoever listens
_LABELS = 32
LEARNED = "log-"  # uids of what was learned begin so


class LearnedNames:
    """Puts an inventory word into the report whenever an address is first named or named anew.

    The first name of an address holds for all time before, because nothing else is known of it; a later one
    holds from the record that told it.
    """

    def __init__(self, report: CaptureReport) -> None:
        self._report = report
        self._known: dict[str, tuple[str, str, str]] = {}
        self._told = 0

    def tell(
        self, ip: str, seconds: int, kind: str, namespace: str, name: str, *, workload: str = "", node: str = "",
        labels: Labels | None = None,
    ) -> None:  # fmt: skip
        """Take in who has an address; ``seconds`` is the time of the record, s since epoch.

        Raises:
            ValueError: ``ip`` is no address.
        """
        if not name or kind not in ("Pod", "Service", "Node"):
            return
        who = (kind, namespace, name)
        if self._known.get(ip) == who:
            return
        ip = unpack(pack(ip))
        before = self._known.get(ip)
        if before == who or self._told >= _STATEMENTS:
            return
        try:
            item = InventoryObject(
                kind=kind, uid=f"{LEARNED}{hash_text('/'.join((*who, ip))):016x}", namespace=namespace, name=name,
                ips=(ip,), workload=workload, node=node, labels=dict(list((labels or {}).items())[:_LABELS]),
                valid_from=seconds if before is not None else 0,
            )  # fmt: skip
        except ValidationError:
            self._report.note("names that are no names of objects were left out")
            return
        self._known[ip] = who
        if len(self._known) > _ADDRESSES:
            del self._known[next(iter(self._known))]
        self._told += 1
        self._report.identities.append(item)
        if self._told == _STATEMENTS:
            self._report.note(f"more than {_STATEMENTS} names of addresses; later ones were left out")
