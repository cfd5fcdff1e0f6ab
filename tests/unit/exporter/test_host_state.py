"""What the node's own state becomes: whose socket or interface it is, told when it begins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exporter.message_stream import Identity, MessageStream
from exporter.settings import ExporterSettings, HostSettings, PacketSettings
from exporter.sources import host
from exporter.sources.host import HostSource
from exporter.sources.pod_sockets import PodSockets, SocketEntry
from exporter.sources.rtnetlink import AddressMessage, LinkMessage, Message
from schemas.event_codec import batch_to_rows
from schemas.events import LinkClaim

POD = "10.1.0.5"
GONE = 40  # a process that has ended
HEAD = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode"
TCP = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


class Proc:
    """A /proc of files that a test writes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def process(self, pid: int, space: str, comm: str = "sh", **sockets: int) -> None:
        """Add a process to a namespace, whose files are hard links: one inode number, as in the kernel's."""
        folder = self.root / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "comm").write_text(f"{comm}\n")
        (folder / "net").mkdir()
        for name in ("packet", "tcp", "tcp6", "dev_mcast"):
            (folder / "net" / name).hardlink_to(self.file(space, name))
        for number, inode in sockets.items():
            (folder / "fd" / number.removeprefix("fd")).symlink_to(f"socket:[{inode}]")

    def file(self, space: str, name: str) -> Path:
        path = self.root / "spaces" / space / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    def space(self, name: str, sockets: str = "", listening: str = "") -> None:
        self.file(name, "packet").write_text(f"{HEAD}\n{sockets}")
        self.file(name, "tcp").write_text(TCP + listening)
        self.file(name, "dev_mcast").write_text("2    eth0            1     0     333300000001\n")


def packet_socket(inode: int, interface: int = 2) -> str:
    return f"00000000 3      3    0003   {interface}     1 0      0      {inode}\n"


def listener(inode: int, port: int, state: str = "0A") -> str:
    return f"   0: 00000000:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 {inode} 1 0\n"


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    made = Proc(tmp_path)
    made.space("node")
    made.process(1, "node", "init")
    (tmp_path / "self").symlink_to("1")
    return made


VETH = LinkMessage(False, 0, 7, 1, "veth7", "veth", True, space=3, mac=0x02_00_00_00_00_07)
INSIDE = LinkMessage(False, 0, 2, 1, "eth0", "veth", True, space=0, mac=0x02_00_00_00_00_05)


class Kernel:
    """Interfaces by namespace."""

    def __init__(self) -> None:
        self.spaces: dict[int, list[Message]] = {-1: [VETH], 3: [INSIDE, AddressMessage(False, 2, POD)]}

    def everything(self, space: int = -1) -> Iterator[Message]:
        return iter(self.spaces[space])

    def space_of(self, pid: int) -> int:
        """Processes from 50 on are in the pod's namespace, those from 60 on in the first ones, others in none."""
        if pid == GONE:
            raise ProcessLookupError(3, "No such process")
        return 3 if 50 <= pid < 60 else pid - 60 if pid >= 60 else -1


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(host, "everything", made.everything)
    monkeypatch.setattr(host, "space_of", made.space_of)
    return made


@pytest.fixture
def source(proc: Proc, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> HostSource:
    monkeypatch.setattr(host, "PodSockets", lambda: PodSockets(proc.root))
    settings = ExporterSettings(
        host=HostSettings(repeat_seconds=60, listener_seconds=1), packets=PacketSettings(uplinks=("eth*",))
    )
    return HostSource(settings, 1, 0)


def everything_told(source: HostSource, cut: int) -> list[tuple[Any, ...]]:
    second = source.close(cut)
    stream = MessageStream(Identity("c", "n", "exporter", "b", "host", 0, "live"), ExporterSettings().cut)
    rows = [
        row for m in stream.messages(cut, second, source.interfaces) for row in batch_to_rows("link", m.batches["link"])
    ]
    assert all((cut - 1) * 10**9 <= row["time"] < cut * 10**9 for row in rows)
    return [(row["claim"], row["claimed"], row["interface"], row["text"], row["number"]) for row in rows]


def told(source: HostSource, cut: int) -> list[tuple[Any, ...]]:
    return [row for row in everything_told(source, cut) if row[0] != LinkClaim.POD_INTERFACE]


NOBODY = "::"


def test_a_packet_socket_is_its_pods_and_is_told_again_after_a_while(source: HostSource, proc: Proc) -> None:
    proc.space("pod", packet_socket(900))
    proc.process(50, "pod")
    proc.process(51, "pod", "tcp\x1bdump", fd3=901, fd4=900)
    source.open()
    claim = (LinkClaim.PACKET_SOCKET, POD, "eth0", "tcp?dump", 0)
    assert told(source, 100) == [claim]
    assert told(source, 101) == []
    assert told(source, 160) == [claim]
    proc.space("pod")
    assert told(source, 161) == []
    proc.space("pod", packet_socket(950, 0))
    # Nobody is found who has it, and it listens to every interface.
    assert told(source, 162) == [(LinkClaim.PACKET_SOCKET, POD, "", "", 0)]


def test_whose_the_nodes_interfaces_are_is_told_and_told_again(source: HostSource, kernel: Kernel) -> None:
    source.open()
    claim = (LinkClaim.POD_INTERFACE, POD, "veth7", "", 7)
    assert everything_told(source, 100) == [claim]
    assert everything_told(source, 101) == []
    assert everything_told(source, 160) == [claim]
    kernel.spaces[3][1] = AddressMessage(False, 2, "10.1.0.9")
    assert everything_told(source, 161) == [(LinkClaim.POD_INTERFACE, "10.1.0.9", "veth7", "", 7)]
    kernel.spaces[-1] = []
    assert [row[0] for row in everything_told(source, 162)] == [LinkClaim.INTERFACE_REMOVED]


def test_a_namespace_without_a_way_to_this_node_is_left_out(source: HostSource, proc: Proc) -> None:
    proc.space("elsewhere", packet_socket(900))
    proc.process(30, "elsewhere")
    proc.space("bare", packet_socket(901))
    proc.process(GONE, "bare")
    proc.space("node", packet_socket(902, 0))
    source.open()
    assert [row[:2] for row in told(source, 100)] == [(LinkClaim.PACKET_SOCKET, NOBODY)]


def test_promiscuous_interfaces_of_the_node_and_inside_a_pod(source: HostSource, kernel: Kernel) -> None:
    source.open()
    assert told(source, 100) == []
    kernel.spaces[3][0] = LinkMessage(False, 0, 2, 1, "eth0", "veth", True, space=0, mac=5, listeners=1)
    kernel.spaces[-1] = [VETH, LinkMessage(False, 0, 1, 772, "lo", "", False, listeners=1),
                         LinkMessage(False, 0, 3, 1, "eth0", "", False, listeners=2)]  # fmt: skip
    assert sorted(row for row in told(source, 101) if row[0] == LinkClaim.PROMISCUOUS) == [
        (LinkClaim.PROMISCUOUS, POD, "eth0", "", 0), (LinkClaim.PROMISCUOUS, NOBODY, "eth0", "", 0),
    ]  # fmt: skip


def test_only_listeners_after_the_start_are_new(source: HostSource, proc: Proc) -> None:
    proc.space("pod", "", listener(500, 80))
    proc.process(50, "pod", "nginx", fd3=500)
    source.open()
    assert told(source, 100) == []
    proc.process(51, "pod", "nc", fd3=501)
    proc.space("pod", "", listener(500, 80) + listener(501, 4444) + listener(502, 9, "01") + listener(503, 10))
    assert told(source, 101) == [(LinkClaim.LISTENER, POD, "", "nc", 4444)]
    assert told(source, 102) == []


def test_interfaces_that_come_go_and_move(source: HostSource, kernel: Kernel) -> None:
    source.open()
    bridge = LinkMessage(False, 0, 8, 1, "br0", "bridge", False)
    kernel.spaces[-1] = [VETH, bridge]
    assert told(source, 100) == [(LinkClaim.INTERFACE_ADDED, NOBODY, "br0", "bridge", 8)]
    kernel.spaces[-1] = [LinkMessage(False, 0, 7, 1, "veth7", "veth", True, space=3, master=8), bridge]
    assert told(source, 101) == [(LinkClaim.INTERFACE_MOVED, NOBODY, "veth7", "veth br0", 7)]
    kernel.spaces[-1] = [bridge]
    assert told(source, 102) == [(LinkClaim.INTERFACE_REMOVED, NOBODY, "veth7", "veth br0", 7)]


def test_a_pod_that_cannot_be_asked_is_noted_once(source: HostSource, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(space: int = -1) -> Iterator[Message]:
        if space >= 0:
            raise PermissionError(1, "Operation not permitted")
        return iter([VETH])

    monkeypatch.setattr(host, "everything", refuse)
    source.open()
    for cut in (100, 101):
        assert told(source, cut) == []
    assert source.state().notes == ["cannot ask for the interfaces of pods: Operation not permitted"]


def test_lines_that_are_no_sockets_are_passed_over(proc: Proc) -> None:
    proc.space("pod", "garbage\n" + packet_socket(7, 3), "x\n" + listener(8, 443))
    proc.process(50, "pod")
    sockets = PodSockets(proc.root)
    (space,) = [space for space in sockets.spaces() if 50 in space.pids]
    assert sockets.packet_sockets(space) == [SocketEntry(7, 3)]
    assert sockets.listeners(space) == [SocketEntry(8, 443)]
    assert (sockets.interface(space, 2), sockets.interface(space, 3), sockets.interface(space, 0)) == ("eth0", "", "")


def test_a_pod_that_opens_thousands_is_looked_at_in_part_and_counted(source: HostSource, proc: Proc) -> None:
    proc.space("pod")
    proc.process(50, "pod", "nc", **{f"fd{n}": n for n in range(900, 910)})
    source.open()
    raw = "".join(packet_socket(number, 0) for number in range(900, 1900))
    proc.space("pod", raw, "".join(listener(number, number) for number in range(5000, 6000)))
    second = source.close(100)
    assert second.lost_rows == 2
    (block,) = second.links
    assert len(block["time"]) == 3 + 256  # claims for the interface, the program and unknown ones, and listeners
    assert source.close(101).lost_rows == 2


def test_listeners_are_looked_at_in_turn(proc: Proc, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "PodSockets", lambda: PodSockets(proc.root))
    made = HostSource(ExporterSettings(host=HostSettings(listener_seconds=2)), 1, 0)
    pods = ("one", "two", "three")
    for number, name in enumerate(pods):
        kernel.spaces[number] = [INSIDE, AddressMessage(False, 2, f"10.1.1.{number}")]
        proc.space(name)
        proc.process(60 + number, name)
    kernel.spaces[-1] = [LinkMessage(False, 0, 20 + n, 1, f"veth{n}", "veth", True, space=n) for n in range(3)]
    made.open()
    for number, name in enumerate(pods):
        proc.space(name, "", listener(700 + number, 81 + number))
    looks = [told(made, cut) for cut in (100, 101)]
    # Four namespaces, the node's among them, two a look.
    assert sorted(row[4] for rows in looks for row in rows) == [81, 82, 83]
    assert max(map(len, looks)) == 2
    assert told(made, 102) == told(made, 103) == []
