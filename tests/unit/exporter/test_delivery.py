"""Exports: order, pace, shifting, files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from exporter.delivery import DeliveryError, FileDelivery, KafkaDelivery, stamped
from exporter.run import Capture, ExportSummary, Pace, export
from exporter.sources.capture import CaptureError, read_messages
from schemas.event_codec import EventMessage, decode, encode, read_file
from schemas.inventory import InventoryObject
from schemas.time_shift import shifted
from tests.unit.exporter.crafting import BASE, SYN, messages, pcap, rows, tcp4


class Kept:
    """A delivery that keeps what it is given."""

    def __init__(self, fail_at: int = -1) -> None:
        self.messages: list[EventMessage] = []
        self.closed: list[bool] = []
        self.identities: list[tuple[int, InventoryObject]] = []
        self._fail_at = fail_at

    async def open(self) -> None:
        assert not self.messages

    async def send(self, message: EventMessage) -> None:
        if len(self.messages) == self._fail_at:
            problem = "full"
            raise DeliveryError(problem)
        self.messages.append(message)

    async def identify(self, objects: Sequence[InventoryObject]) -> None:
        self.identities += [(len(self.messages), item) for item in objects]

    async def close(self, complete: bool) -> None:
        self.closed.append(complete)


def capture(folder: Path, node: str, seconds: list[float]) -> Capture:
    path = folder / f"{node}.pcap"
    path.write_bytes(pcap([(when, tcp4("10.0.0.1", 40_000, "10.0.0.2", 80, SYN)) for when in seconds]))
    return Capture(path, node)


async def test_nodes_are_interleaved_by_cut_after_all_heartbeats(tmp_path: Path) -> None:
    kept = Kept()
    summary = await export(
        [capture(tmp_path, "b", [5.5, 6.5]), capture(tmp_path, "a", [1.5, 9.5])], kept, "lab", boot="t"
    )
    order = [(message.header.node, message.header.cut - BASE) for message in kept.messages]
    assert order[:2] == [("b", 5), ("a", 1)]
    assert [cut for _, cut in order[2:]] == sorted(cut for _, cut in order[2:])
    assert [message.header.sequence for message in kept.messages if message.header.node == "a"][:3] == [0, 1, 2]
    assert sum(message.header.final for message in kept.messages) == 2
    assert summary.messages == len(order)
    assert [report.packets for report in summary.reports] == [2, 2]
    assert kept.closed == [True]


async def test_pace_follows_the_cuts(tmp_path: Path) -> None:
    now, slept = 100.0, []

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(round(seconds, 6))
        now += seconds

    pace = Pace(speed=4.0, clock=lambda: now, sleep=sleep)
    await export([capture(tmp_path, "a", [0.5, 8.5])], Kept(), "lab", pace=pace)
    # Cuts 1, 4 (unanswered), 39 (forgotten), and 69, where the clock has run on for a minute.
    assert slept[:3] == [0.75, 8.75, 7.5]
    assert sum(slept) == pytest.approx(68 / 4)


async def test_shifting_moves_every_time_alike(tmp_path: Path) -> None:
    kept = Kept()
    source = capture(tmp_path, "a", [0.5, 2.5])
    await export([source], kept, "lab", first_cut=BASE + 1001, boot="capture")
    plain = list(read_messages(source.path, "a", "lab"))
    assert [encode(shifted(message, 1000)) for message in plain] == [encode(message) for message in kept.messages]
    assert kept.messages[1].header.cut == BASE + 1001
    moved = rows(kept.messages)[0]
    assert (moved["start"], moved["conn_start"]) == (BASE * 10**9 + 1000_500_000_000,) * 2


async def test_an_unreadable_file_leaves_nothing_behind(tmp_path: Path) -> None:
    kept = Kept()
    with pytest.raises(CaptureError):
        await export([capture(tmp_path, "a", [0.5]), Capture(tmp_path / "missing", "b")], kept, "lab")
    assert (kept.messages, kept.closed) == ([], [])


async def test_a_node_has_one_capture(tmp_path: Path) -> None:
    source = capture(tmp_path, "a", [0.5])
    with pytest.raises(ValueError, match="same node"):
        await export([source, source], Kept(), "lab")


async def test_progress_is_told_and_an_error_closes(tmp_path: Path) -> None:
    seen: list[int] = []

    def progress(summary: ExportSummary) -> None:
        seen.append(summary.messages)

    kept = Kept(fail_at=2)
    with pytest.raises(DeliveryError):
        await export([capture(tmp_path, "a", [0.5])], kept, "lab", progress=progress)
    assert (seen, kept.closed) == ([1, 2], [False])


async def test_files_read_back(tmp_path: Path) -> None:
    source = capture(tmp_path, "a", [0.5])
    wanted = [encode(message) for message in read_messages(source.path, "a", "lab", boot="t")]
    await export([source], FileDelivery(tmp_path / "out.events"), "lab", boot="t")
    assert [encode(message) for message in read_file(io.BytesIO((tmp_path / "out.events").read_bytes()))] == wanted
    await export([source], FileDelivery(tmp_path / "out.jsonl", json_lines=True), "lab", boot="t")
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line)["header"]["sequence"] for line in lines] == list(range(len(wanted)))
    assert [decode(line).header for line in lines] == [decode(value).header for value in wanted]
    assert not list(tmp_path.glob("*.partial"))  # noqa: ASYNC240 nothing else runs in this loop


async def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match=r"cannot write .*: No such file or directory; check the path"):
        await export([capture(tmp_path, "a", [0.5])], FileDelivery(tmp_path / "no" / "x"), "lab")


async def test_an_unfinished_file_does_not_take_its_name(tmp_path: Path) -> None:
    delivery = FileDelivery(tmp_path / "x")
    await delivery.open()
    await delivery.close(complete=False)
    assert not (tmp_path / "x").exists()


async def test_an_absent_broker_is_one_line() -> None:
    delivery = KafkaDelivery({"bootstrap_servers": "127.0.0.1:1", "request_timeout_ms": 500}, "sluicegate.events.v1")
    with pytest.raises(DeliveryError, match=r"cannot deliver to topic sluicegate.events.v1 at 127.0.0.1:1: ") as caught:
        await delivery.open()
    assert "\n" not in str(caught.value)


def test_live_messages_bear_their_send_time_and_captures_none(tmp_path: Path) -> None:
    (first, *_) = messages(tmp_path, pcap([(0.5, tcp4("10.0.0.1", 1, "10.0.0.2", 80, SYN))]))
    assert stamped(first, 7) is first
    live = EventMessage(first.header.model_copy(update={"clock": "live"}))
    assert [stamped(live, now).header.sent_at for now in (7, 9)] == [7, 9]


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    content = (capture(tmp_path, "a", [0.5, 3.25])).path
    twice = [[encode(message) for message in read_messages(content, "a", "lab")] for _ in range(2)]
    assert twice[0] == twice[1]


def test_messages_frame_the_data(tmp_path: Path) -> None:
    found = messages(tmp_path, pcap([(0.5, tcp4("10.0.0.1", 1, "10.0.0.2", 80, SYN))]))
    assert (found[0].header.cut, found[0].batches) == (BASE, {})
    assert [message.header.final for message in found] == [False] * (len(found) - 1) + [True]
    assert found[-1].header.cut == BASE + 61
    assert messages(tmp_path, pcap([])) == []
