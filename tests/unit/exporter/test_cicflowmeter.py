"""CICFlowMeter tables: spellings, times, and what flags of both sides together allow to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exporter.chunks import CaptureReport
from exporter.sources.byte_source import CaptureError
from schemas.events import Capability
from tests.log_samples import BEGIN, CIC_HEADER, cic
from tests.unit.exporter.flow_logs import read, rows

NOTHING = {"fwdlen": 0, "bwdlen": 0}


def marks(folder: Path, **more: Any) -> str:
    return "".join(sorted("".join(row["marks"] for row in rows(read(folder, CIC_HEADER + cic(**more))))))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, "ceox"),
        ({"fwd": 1, "bwd": 1, "syn": 1, "rst": 1, "bwdrst": 1, "ack": 1, **NOTHING}, "cor"),
        ({"fwd": 1, "bwd": 0, "syn": 1, "ack": 0, **NOTHING}, "cou"),
        ({"fwd": 2, "bwd": 1, "syn": 2, "rst": 1, **NOTHING}, "co"),  # SYN, SYN-ACK, RST
        ({"fwd": 3, "bwd": 1, "syn": 2, **NOTHING}, "ceo"),
        ({"syn": 0}, "cx"),  # joined midway
        ({"proto": 17, "syn": 0}, "ceox"),
        ({"proto": 17, "syn": 0, "bwd": 0, "bwdlen": 0}, "cou"),
        ({"proto": 1, "syn": 0, "type": 8, "code": 0, **NOTHING}, "ceo"),
        ({"proto": 1, "syn": 0, "type": 3, "code": 1, "bwd": 0, **NOTHING}, "c"),
    ],
)
def test_marks(tmp_path: Path, more: dict[str, Any], expected: str) -> None:
    assert marks(tmp_path, **more) == expected


def test_bytes_are_payload_and_headers(tmp_path: Path) -> None:
    messages = read(tmp_path, CIC_HEADER + cic())
    (row,) = rows(messages)
    assert (row["src_packets"], row["src_payload"], row["src_bytes"]) == (5, 100, 100 + 112 + 5 * 20)
    assert (row["dst_packets"], row["dst_payload"], row["dst_bytes"]) == (4, 500, 500 + 92 + 4 * 20)
    assert not Capability(messages[0].header.capabilities) & Capability.TCP_FLAGS


OTHER_SPELLINGS = [
    "Flow ID, Source IP, Source Port, Destination IP, Destination Port, Protocol, Timestamp, Flow Duration, Total Fwd "
    "Packets, Total Backward Packets,Total Length of Fwd Packets, Total Length of Bwd Packets, Fwd Header Length, Bwd "
    "Header Length, SYN Flag Count, RST Flag Count, ACK Flag Count,Bwd RST Flags, ICMP Code, ICMP Type, Label\n",
    "\ufeffFlow ID,Src IP,Src Port,Dst IP,Dst Port,Protocol,Timestamp,Flow Duration,Tot Fwd Pkts,Tot Bwd Pkts,TotLen "
    "Fwd Pkts,TotLen Bwd Pkts,Fwd Header Len,Bwd Header Len,SYN Flag Cnt,RST Flag Cnt,ACK Flag Cnt,Bwd RST Flags,ICMP "
    "Code,ICMP Type,Label\n",
    "id,src_ip,src_port,dst_ip,dst_port,protocol,timestamp,flow_duration,tot_fwd_pkts,tot_bwd_pkts,totlen_fwd_pkts,"
    "totlen_bwd_pkts,fwd_header_len,bwd_header_len,syn_flag_cnt,rst_flag_cnt,ack_flag_cnt,bwd rst flags,icmp code,icmp "
    "type,label\n",
]


@pytest.mark.parametrize("header", OTHER_SPELLINGS)
def test_other_spellings_of_the_columns(tmp_path: Path, header: str) -> None:
    assert rows(read(tmp_path, header + cic())) == rows(read(tmp_path, CIC_HEADER + cic()))


@pytest.mark.parametrize(
    ("text", "second"),
    [("14/11/2023 22:15:07", 7), ("14/11/2023 10:15:07 PM", 7), ("2023-11-14T22:15:07Z", 7),
     ("14/11/2023 12:15:07 AM", 7 - 22 * 3600)],
)  # fmt: skip
def test_times(tmp_path: Path, text: str, second: int) -> None:
    (row,) = rows(read(tmp_path, CIC_HEADER + cic(time=text)))
    assert row["start"] == (BEGIN + second) * 10**9


def test_times_without_seconds_are_spread_over_their_minute(tmp_path: Path) -> None:
    lines = [cic(n, time="14/11/2023 22:15") for n in range(6)] + [cic(9, time="14/11/2023 22:16")]
    messages = read(tmp_path, CIC_HEADER + "\n".join(lines))
    assert [row["cut"] for row in rows(messages)] == [1, 11, 21, 31, 41, 51, 61]
    assert not Capability(messages[0].header.capabilities) & Capability.EXACT_TIME
    assert any("minutes only" in note for note in messages[0].header.notes)


@pytest.mark.parametrize("time", ["31/02/2023 10:00:00", "2023-02-31 10:00:00", "yesterday", ""])
def test_days_that_do_not_exist(tmp_path: Path, time: str) -> None:
    report = CaptureReport()
    assert len(rows(read(tmp_path, CIC_HEADER + cic() + "\n" + cic(time=time), report))) == 1
    assert report.problems == ["line 3 was left out: time is not what it must be"]


def test_a_table_without_addresses_is_refused(tmp_path: Path) -> None:
    header = "Destination Port,Protocol,Flow Duration,Total Fwd Packets,Total Backward Packets,Label\n"
    with pytest.raises(CaptureError, match="no column 'src ip'"):
        read(tmp_path, header + "80,6,100,2,2,BENIGN\n")
