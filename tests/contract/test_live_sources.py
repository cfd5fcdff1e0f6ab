"""What every live source must keep, found by name; some of it needs the privileges that sources need."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from exporter.live_source import LiveSource, SourceError
from exporter.live_sources import LIVE_SOURCES
from exporter.message_stream import Identity, MessageStream
from exporter.privileges import missing
from exporter.settings import CutSettings, ExporterSettings, PacketSettings
from schemas.event_codec import decode, encode
from schemas.events import KINDS, MAX_NOTE, Capability

NOW = 1_700_000_000 * 10**9
# No interface of the machine is watched.
NOTHING = ExporterSettings(packets=PacketSettings(pods=("no-such-*",)))

every_source = pytest.mark.parametrize("name", sorted(LIVE_SOURCES))


@pytest.fixture
def source(name: str) -> Iterator[LiveSource]:
    made = LIVE_SOURCES[name](NOTHING, 5, NOW)
    lacking = missing(made.needs)
    if lacking:
        pytest.skip(f"needs {', '.join(privilege.name for privilege in lacking)}")
    made.open()
    yield made
    made.shut()


def open_files() -> set[str]:
    return {
        os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")
    }


@every_source
def test_says_what_it_is(name: str) -> None:
    made = LIVE_SOURCES[name](NOTHING, 5, NOW)
    assert made.name == name
    assert made.capabilities
    assert made.keeps <= made.needs
    assert all(0 < len(text) <= MAX_NOTE for text in made.notes)
    # Those that say which rows there are, and fill no column of their own.
    offered = Capability.HOST | Capability.ATTEMPTS | Capability.EXACT_TIME | Capability.REVERSE
    offered |= Capability.ICMP_CLAIMS
    for columns in KINDS.values():
        for column in columns:
            offered |= column.needs
    assert made.capabilities & ~offered == Capability(0)


@every_source
def test_makes_a_second_each_time_it_is_asked(name: str, source: LiveSource) -> None:
    identity = Identity("c", "n", "exporter", "b", name, int(source.capabilities), "live", source.notes)
    stream = MessageStream(identity, CutSettings())
    cut = NOW // 10**9 + 1
    for number in range(4):
        source.collect(cut + number, (cut + number) * 10**9)
        second = source.close(cut + number, final=number == 3)
        assert source.interfaces[0] == ""
        for message in stream.messages(cut + number, second, source.interfaces, heartbeat=True):
            assert decode(encode(message)).header.cut == cut + number
    assert source.state().lost_packets >= 0


@every_source
def test_gives_everything_back(name: str) -> None:
    made = LIVE_SOURCES[name](NOTHING, 5, NOW)
    if missing(made.needs):
        pytest.skip("needs privileges")
    made.open()
    made.shut()
    before = open_files()
    for _ in range(3):
        again = LIVE_SOURCES[name](NOTHING, 5, NOW)
        again.open()
        again.shut()
        again.shut()
    assert open_files() == before


@every_source
def test_nothing_is_due_before_anything_was_seen(name: str, source: LiveSource) -> None:
    assert source.next_due is None
    assert not source.busy


@every_source
def test_what_it_cannot_begin_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("socket.socket", refuse)
    made = LIVE_SOURCES[name](NOTHING, 5, NOW)
    with pytest.raises(SourceError, match=f"^{name}: .*Operation not permitted") as caught:
        made.open()
    assert str(caught.value).isprintable()
    made.shut()
