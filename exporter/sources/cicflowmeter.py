"""CSV of CICFlowMeter: one line per flow, in the three spellings of its columns that are about.

Columns and their meaning: https://github.com/ahlashkari/CICFlowMeter (ReadMe) and the Python port of the same name.
Columns of labels and ids are not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from exporter.chunks import I64
from exporter.flow_records import FlowRecords, attempt_marks, life_rows
from exporter.record_cutter import RecordBlock
from exporter.sources.byte_source import ByteSource, CaptureError
from exporter.sources.lines import LineBlock, read_lines
from exporter.sources.log_reader import Head, LogReader, Reading
from exporter.sources.selection import select
from exporter.sources.text_columns import Bool, TextColumns, iso_times
from schemas.events import Capability

# Our name, and what releases call it (compared in lower case).
_SPELLINGS = {
    "src": ("src ip", "source ip", "src_ip"), "dst": ("dst ip", "destination ip", "dst_ip"),
    "src_port": ("src port", "source port", "src_port"), "dst_port": ("dst port", "destination port", "dst_port"),
    "proto": ("protocol",), "time": ("timestamp",), "duration": ("flow duration", "flow_duration"),
    "src_packets": ("total fwd packet", "total fwd packets", "tot fwd pkts", "tot_fwd_pkts"),
    "dst_packets": ("total bwd packets", "total backward packets", "tot bwd pkts", "tot_bwd_pkts"),
    "src_payload": ("total length of fwd packet", "total length of fwd packets", "totlen fwd pkts", "totlen_fwd_pkts"),
    "dst_payload": ("total length of bwd packet", "total length of bwd packets", "totlen bwd pkts", "totlen_bwd_pkts"),
    "src_header": ("fwd header length", "fwd header len", "fwd_header_len"),
    "dst_header": ("bwd header length", "bwd header len", "bwd_header_len"),
    "syn": ("syn flag count", "syn flag cnt", "syn_flag_cnt"),
    "rst": ("rst flag count", "rst flag cnt", "rst_flag_cnt"),
    "ack": ("ack flag count", "ack flag cnt", "ack_flag_cnt"),
    "src_rst": ("fwd rst flags",), "dst_rst": ("bwd rst flags",),
    "icmp_type": ("icmp type",), "icmp_code": ("icmp code",),
}  # fmt: skip
_NEEDED = ("src", "dst", "proto", "time", "duration")
_TCP, _ICMP, _ICMP6 = 6, 1, 58
_MINUTE, _SECOND = 60_000_000_000, 1_000_000_000
_MICROSECOND = 1000
# 29/02/2017 08:47:38 AM, 5/7/2017 3:30: day first, as the tool's own format string has it.
_DAY_FIRST = (
    r"^(?P<d>\d{1,2})/(?P<m>\d{1,2})/(?P<y>\d{4}) +"
    r"(?P<H>\d{1,2}):(?P<M>\d{2})(?::(?P<S>\d{2}))?(?: *(?P<p>[AaPp])[Mm])?$"
)
_IPV4_HEADER, _IPV6_HEADER = 20, 40


class CicFlowMeter(LogReader):
    """Flows with both directions; flags only for both sides together."""

    id = "cicflowmeter_csv"
    title = "CICFlowMeter CSV"

    @classmethod
    def recognises(cls, head: Head) -> bool:
        """The columns that every release has beside its statistics."""
        columns = _columns(head.lines[0]) if head.lines else {}
        return {"proto", "duration", "src_packets", "dst_packets"} <= set(columns)

    @property
    def _fields(self) -> set[str]:
        return set(_columns(self.head.lines[0]))

    @property
    def _coarse(self) -> bool:
        """Times have no seconds."""
        place = _columns(self.head.lines[0]).get("time", 0)
        samples = [v[place] for line in self.head.lines[1:] if len(v := _split(line)) > place]
        return bool(samples) and all(value.count(":") == 1 for value in samples)

    @property
    def capabilities(self) -> Capability:
        """By the columns and times that the file has."""
        able = Capability.REVERSE | Capability.PAYLOAD | Capability.ATTEMPTS
        able |= Capability.PORTS if {"src_port", "dst_port"} <= self._fields else Capability(0)
        able |= Capability.PACKETS if {"src_header", "dst_header"} <= self._fields else Capability(0)
        able |= Capability.ICMP if "icmp_type" in self._fields else Capability(0)
        return able | (Capability(0) if self._coarse else Capability.EXACT_TIME)

    @property
    def notes(self) -> Sequence[str]:
        """What the tables leave out."""
        notes = [
            "CICFlowMeter: flags are told for both sides together, so TCP flags are left out; NULL, FIN and Xmas "
            "probes are not seen as attempts",
            "CICFlowMeter: flows longer than its time-out are cut, and the direction may turn at the cut",
            "CICFlowMeter: IP bytes are payload and headers without IP options; times are taken as UTC, day first",
        ]
        if self._coarse:
            notes.append("CICFlowMeter: times have minutes only; flows are spread evenly over each minute")
        return notes

    def read(self, source: ByteSource, reading: Reading) -> Iterator[RecordBlock]:
        """Read the whole table.

        Raises:
            CaptureError: it has no addresses or no times, as the tables for machine learning.
        """
        fields = _columns(self.head.lines[0])
        missing = [name for name in _NEEDED if name not in fields]
        if missing:
            problem = (
                f"{reading.path}: this CICFlowMeter table has no column {_SPELLINGS[missing[0]][0]!r}; "
                "use the table with addresses and times, not the one made for machine learning"
            )
            raise CaptureError(problem)
        width, header = len(_split(self.head.lines[0])), True
        able, coarse = self.capabilities, self._coarse
        for block in read_lines(source, reading.settings.reading.line_bytes):
            if header and block.lines:
                del block.lines[0], block.numbers[0]
                header = False
            table, lost = _table(block, fields, width, reading)
            records = _records(table, able, coarse)
            bad = reading.damaged.add(table.numbers[table.bad].tolist(), table.reason)
            kept = select(records, ~table.bad)
            rows = life_rows(kept, reading.salt, reading.settings.flow.unanswered_seconds) if len(kept.start) else []
            yield RecordBlock(rows, len(kept.start), lost + bad)


def _split(line: str) -> list[str]:
    return [value.strip().strip('"') for value in line.split(",")]


def _columns(line: str) -> dict[str, int]:
    """Return the places of the columns that are known, by our names."""
    names = [name.removeprefix("\ufeff").lower() for name in _split(line)]
    found = {ours: [names.index(s) for s in spellings if s in names] for ours, spellings in _SPELLINGS.items()}
    return {ours: places[0] for ours, places in found.items() if places}


def _table(block: LineBlock, fields: dict[str, int], width: int, reading: Reading) -> tuple[TextColumns, int]:
    numbers: list[int] = []
    rows: list[list[str]] = []
    wrong: list[int] = []
    for number, raw in zip(block.numbers, block.lines, strict=True):
        values = raw.decode("utf-8", "replace").split(",")
        if len(values) != width:
            wrong.append(number)
            continue
        numbers.append(number)
        rows.append([values[place].strip().strip('"') for place in fields.values()])
    lost = reading.damaged.add(wrong, "another number of columns than the header line has")
    lost += reading.damaged.add(block.too_long, f"longer than {reading.settings.reading.line_bytes} bytes")
    return TextColumns(numbers, {name: [row[i] or None for row in rows] for i, name in enumerate(fields)}), lost


def _records(table: TextColumns, able: Capability, coarse: bool) -> FlowRecords:
    start = _times(table, coarse)
    # The Java tool counts microseconds. Lengths below 0 occur for disordered packets.
    duration = np.maximum(0, np.nan_to_num(table.numbers_of("duration")))
    table.mark("duration", duration > 1e15)
    duration = np.where(table.bad, 0, duration).astype(np.int64) * _MICROSECOND
    src, dst = table.addresses("src"), table.addresses("dst")
    proto = table.count("proto", 255)
    icmp = (proto == _ICMP) | (proto == _ICMP6)
    packets = [table.count(f"{side}_packets") for side in ("src", "dst")]
    payload = [_whole(table, f"{side}_payload") for side in ("src", "dst")]
    columns = {
        "src": src, "dst": dst, "proto": proto, "src_payload": payload[0], "dst_payload": payload[1],
        "direction_known": _attempts(table, proto, packets) | (proto != _TCP),
    }  # fmt: skip
    if Capability.PORTS in able:
        ports = [np.where(icmp, 0, table.count(f"{side}_port", 65_535)) for side in ("src", "dst")]
        columns |= {"src_port": ports[0], "dst_port": ports[1]}
    if Capability.PACKETS in able:
        six = np.array([":" in a for a in table.strings("src")], np.bool_)
        header = np.where(six, _IPV6_HEADER, _IPV4_HEADER)
        for side, count, load in zip(("src", "dst"), packets, payload, strict=True):
            octets = load + np.maximum(0, _whole(table, f"{side}_header")) + header * count
            columns |= {f"{side}_packets": count, f"{side}_bytes": octets}
    kinds = [np.where(icmp, np.clip(np.nan_to_num(table.numbers_of(n), nan=-1), -1, 255), 0).astype(np.int64)
             for n in ("icmp_type", "icmp_code")]  # fmt: skip
    if Capability.ICMP in able:
        columns |= {"icmp_type": np.maximum(0, kinds[0]), "icmp_code": np.maximum(0, kinds[1])}
    return FlowRecords(start, start + duration, _marks(table, proto, packets, payload, kinds[0]), columns)


def _whole(table: TextColumns, name: str) -> I64:
    """Return a column of counts that some releases write with a fraction."""
    values = np.nan_to_num(table.numbers_of(name))
    table.mark(name, values > 1 << 48)
    return np.where(table.bad, 0, values).astype(np.int64)


def _attempts(table: TextColumns, proto: I64, packets: list[I64]) -> Bool:
    """Tell which flows begin with an attempt: TCP with a SYN that the first side must have sent."""
    syn = table.count("syn")
    attempt: Bool = (proto == _TCP) & (syn > 0) & (packets[0] > 0)
    return attempt


def _marks(table: TextColumns, proto: I64, packets: list[I64], payload: list[I64], kind: I64) -> I64:
    """Return marks. The flags of both sides are summed: one SYN alone and answers means that none was a SYN-ACK."""
    tcp, icmp = proto == _TCP, (proto == _ICMP) | (proto == _ICMP6)
    question = np.where(proto == _ICMP, np.isin(kind, (8, 13, 15, 17)), kind == 128)
    answered = packets[1] > 0
    attempt = np.where(tcp, _attempts(table, proto, packets), np.where(icmp, question, packets[0] > 0))
    syn, rst = table.count("syn"), table.count("rst")
    back = table.count("dst_rst") if "dst_rst" in table else np.where(table.count("ack") <= 1, rst, 0)
    said = (payload[0] > 0) | (payload[1] > 0)
    # SYN, SYN-ACK, RST is a half-open probe: the initiator's second packet must be something else.
    half_open = (packets[0] == 2) & (rst > 0) & ~said
    handshake = answered & ((syn >= 2) | said) & (packets[0] >= 2) & ~half_open
    refused = tcp & answered & (back > 0) & (syn < 2) & ~said
    established = np.where(tcp, handshake & ~refused, answered)
    return attempt_marks(attempt, refused, ~answered, established, (payload[0] > 0) & (payload[1] > 0))


def _times(table: TextColumns, coarse: bool) -> I64:
    text = table.text("time")
    slashed = pc.fill_null(pc.match_substring_regex(text, _DAY_FIRST), False)
    out = iso_times(pc.if_else(slashed, None, text))
    if pc.any(slashed).as_py():
        out = np.where(slashed.to_numpy(zero_copy_only=False), _day_first(pc.if_else(slashed, text, None)), out)
    table.mark("time", out <= 0)
    return _spread(out) if coarse else out


def _day_first(text: pa.Array) -> I64:
    parts = pc.extract_regex(text, _DAY_FIRST)
    day, month, year, hour, minute, second = (
        pc.utf8_lpad(pc.if_else(pc.equal(pc.fill_null(v, ""), ""), "0", v), 2, "0")
        for v in (pc.struct_field(parts, [name]) for name in ("d", "m", "y", "H", "M", "S"))
    )
    half = pc.utf8_lower(pc.struct_field(parts, ["p"])).to_pylist()
    joined = pc.binary_join_element_wise(pc.binary_join_element_wise(year, month, day, "-"),
                                         pc.binary_join_element_wise(hour, minute, second, ":"), " ")  # fmt: skip
    hours = np.array([int(h or 0) for h in hour.to_pylist()], np.int64)
    shift = np.array([12 if h == "p" else 0 for h in half], np.int64)
    shift = np.where((hours == 12) & np.array([bool(h) for h in half]), shift - 12, shift)
    out = iso_times(joined)
    return np.where(out > 0, out + shift * 60 * _MINUTE, 0)


def _spread(times: I64) -> I64:
    """Return times of whole minutes spread evenly over them, in the order of the lines.

    Otherwise each minute's flows would all fall into its first second, which looks like a flood.
    """
    minute, number, counts = np.unique(times, return_inverse=True, return_counts=True)
    order = np.argsort(number, kind="stable")
    rank = np.empty(len(times), np.int64)
    rank[order] = np.arange(len(times)) - np.repeat(np.cumsum(counts) - counts, counts)
    return minute[number] + rank * _MINUTE // counts[number]
