"""Record the cases again, as root: `python -m tests.lab.record [CASE…] [--list]`.

CASE is `detector/name`, or a detector for all of its cases; without any, all are recorded.

Each case gets a lab of its own, bounded in time, and leaves `capture.pcapng.gz` and `case.json` in its folder; a
case kept as rows leaves `events.sge.gz`, the exporter's messages, instead of the capture.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import importlib
import ipaddress
import json
import math
import pkgutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, cast

from exporter.sources.capture import read_messages
from schemas.event_codec import write_file
from tests.lab import inventory, pods, scenarios
from tests.lab.capture import Capture, PacketsLostError
from tests.lab.frames import Ends, SnapLength, ends, speaker_ends
from tests.lab.lab import ROOT, Lab, missing
from tests.lab.pcapng import Packet, write
from tests.lab.stage import Case, Expectation, Stage

CASES_DIR = ROOT / "tests" / "cases"
ROWS_DIR = ROOT / "tests" / "torture"
CAPTURE_NAME, ROWS_NAME = "capture.pcapng.gz", "events.sge.gz"
CLUSTER = "lab"
MAX_CAPTURE_BYTES, MAX_ROWS_BYTES = 2_000_000, 4_000_000
ATTEMPTS = 3
TAIL_SECONDS = 1.5  # last answers and RSTs are part of a recording
SLACK_SECONDS = 0.05
# Attacks whose frames bear others' addresses, or none: their sender is told by the hardware address.
BY_HARDWARE = {"arp_scan", "arp_spoof", "dhcp_starvation", "icmp_redirect", "rogue_dhcp"}


def all_cases() -> dict[str, Case]:
    """Every case of every module in tests/lab/scenarios, by path."""
    modules = sorted(m.name for m in pkgutil.iter_modules(scenarios.__path__))
    found = [case for m in modules for case in importlib.import_module(f"tests.lab.scenarios.{m}").CASES]
    names = [case.name for case in found]
    assert len(set(names)) == len(names), "case ids are unique among all detectors"
    return {case.path: case for case in found}


def _covers(wanted: str, address: str) -> bool:
    if wanted.startswith("(spoofed"):
        return address not in pods.everybody()
    if wanted.startswith("("):
        return True
    if "/" in wanted:
        return ipaddress.ip_address(address) in ipaddress.ip_network(wanted)
    return address in pods.addresses(wanted)


def _proof(line: Expectation, packets: Sequence[tuple[int, Ends]]) -> list[tuple[int, Ends]]:
    assert line.began is not None
    assert line.ended is not None
    first, last = ((t * 1e9) for t in (line.began - SLACK_SECONDS, line.ended + SLACK_SECONDS))
    inside = [(t, e) for t, e in packets if first <= t <= last]
    return [(t, e) for t, e in inside if _covers(line.src, e.src) and _covers(line.dst, e.dst)]


def _shown(name: str, seen: set[str]) -> str:
    if name not in pods.BY_NAME and name != pods.OUTSIDE:
        return name
    (address,) = seen  # an attack uses one address of a pod
    return address


def _truth(line: Expectation, packets: Sequence[tuple[int, Ends]], first_ns: int) -> dict[str, Any]:
    told: dict[str, Any] = {"expect": line.expect, "kind": line.kind}
    if line.began is not None:
        proof = _proof(line, packets)
        if not proof:
            raise RuntimeError(f"lab: no packet of {line.kind} from {line.src} to {line.dst} was captured")
        told["src"] = _shown(line.src, {e.src for _, e in proof})
        told["dst"] = _shown(line.dst, {e.dst for _, e in proof})
        told["start_s"] = math.floor((proof[0][0] - first_ns) / 1e6) / 1e3
        told["end_s"] = math.ceil((proof[-1][0] - first_ns) / 1e6) / 1e3
        told["packets"] = len(proof)
        told["distinct_sources"] = len({e.src for _, e in proof})
        told["distinct_hosts"] = len({e.dst for _, e in proof})
        told["distinct_ports"] = len({(e.proto, e.dport) for _, e in proof})
    elif line.src:
        told["src"] = line.src
    return told | line.extra | ({"note": line.note} if line.note else {})


def _case_json(case: Case, stage: Stage, packets: Sequence[Packet], capture: Capture, kept: Path) -> bytes:
    raw = kept.read_bytes()
    first = packets[0].time_ns
    known = [(p.time_ns, found) for p in packets if (found := ends(p.data)) is not None]
    recorded = [{"at_s": 0.0, "where": "node", "command": " ".join(capture.command)}]
    for when, where, command in stage.commands:
        recorded.append({"at_s": round(when - first / 1e9, 3), "where": where, "command": command})
    told = {
        "id": case.name, "title": case.title, "input": kept.name, "format": "events" if case.rows else "pcapng",
        "provenance": "recorded by tests/lab/record.py in network namespaces; Apache-2.0", "tier": "A",
        "span_s": round((packets[-1].time_ns - first) / 1e9, 3),
        "first": datetime.fromtimestamp(first / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "packets": len(packets), "snaplen": case.keep, "bytes": len(raw),
        "sha256": hashlib.sha256(raw).hexdigest(),
    }  # fmt: skip
    notes = {"notes": case.notes} if case.notes else {}
    spoken = [(p.time_ns, found) for p in packets if (found := speaker_ends(p.data)) is not None]
    truth = [_truth(line, spoken if line.kind in BY_HARDWARE else known, first) for line in stage.truth]
    whole = told | notes | {"expect": truth, "recorded_with": recorded}
    return json.dumps(whole, indent=2, ensure_ascii=False).encode() + b"\n"


def _rows(capture: Path, target: Path) -> Path:
    """Write what the exporter makes of a capture; the same capture gives the same bytes."""
    with target.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
        write_file(cast(BinaryIO, packed), read_messages(capture, pods.NODE, CLUSTER))
    return target


def record(case: Case, into: Path) -> str:
    """Play one case and write its folder; returns one line about it. Raises RuntimeError, TimeoutError."""
    folder = (ROWS_DIR if case.rows and into == CASES_DIR else into) / case.path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        with Lab(case.pods) as lab:
            stage = Stage(lab)
            with Capture(lab, Path(scratch) / "capture.pcapng") as capture:
                case.play(stage)
                time.sleep(TAIL_SECONDS)
            packets = capture.packets()
        target = (Path(scratch) if case.rows else folder) / CAPTURE_NAME
        write(target, packets, capture.interfaces, SnapLength(case.keep).kept)
        if case.rows:
            target = _rows(target, folder / ROWS_NAME)
    size, most = target.stat().st_size, MAX_ROWS_BYTES if case.rows else MAX_CAPTURE_BYTES
    if size > most:
        raise RuntimeError(f"lab: {target} has {size} bytes, more than {most}")
    (folder / "case.json").write_bytes(_case_json(case, stage, packets, capture, target))
    if case.inventory:
        (folder / "inventory.jsonl").write_bytes(inventory.lines(case.policies))
    return f"{case.path}: {len(packets):,} packets, {size / 1000:,.0f} kB"


def _recorded(case: Case, into: Path) -> bool:
    """Record one case, again when packets were lost on a busy machine; one that fails leaves the others alone."""
    for _ in range(ATTEMPTS):
        try:
            print(record(case, into), flush=True)
            return True
        except PacketsLostError as error:
            print(f"{case.path}: {error}; again", file=sys.stderr, flush=True)
        except (RuntimeError, TimeoutError, subprocess.SubprocessError) as error:
            print(f"{case.path}: {error}", file=sys.stderr, flush=True)
            return False
    return False


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # lets every `with` clean up


def main(words: Sequence[str] | None = None) -> int:
    """Record the named cases, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", nargs="*", help="detector/name, or a detector for all of its cases")
    parser.add_argument("--list", action="store_true", help="print the cases and end")
    parser.add_argument("--into", type=Path, default=CASES_DIR, help="folder of the cases (default: tests/cases)")
    options = parser.parse_args(words)
    known = all_cases()
    wanted = options.case or sorted(known)
    chosen = [case for path, case in sorted(known.items()) if path in wanted or case.detector in wanted]
    if options.list:
        print("\n".join(f"{case.path:40} {case.title}" for case in chosen))
        return 0
    if reason := missing():
        print(f"record: {reason}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _stop)
    failed = [case.path for case in chosen if not _recorded(case, options.into)]
    if failed:
        print(f"record: not recorded: {' '.join(failed)}", file=sys.stderr)
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
