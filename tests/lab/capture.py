"""Record what enters the node: dumpcap on every pod's veth and on the uplink, inbound only.

A packet enters the node once, so it is in the file once, whatever it crosses on its way. What the node itself
sends (its own pings, ICMP errors, ARP) enters nowhere and is not recorded.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType

from tests.lab import pods
from tests.lab.lab import Lab, wait_for
from tests.lab.pcapng import Packet, read


class PacketsLostError(RuntimeError):
    """dumpcap was too slow for a moment; record again."""


class Capture:
    """A running dumpcap writing `path`; use as a context manager. `interfaces` is the order in the file.

    Packets before `begun_ns` and after `ended_ns` (ns since 1970) belong to the start and the end of dumpcap
    and are not part of a recording.
    """

    def __init__(self, lab: Lab, path: Path) -> None:
        self._lab, self._path = lab, path
        self._log = path.with_suffix(".log")
        self._child: subprocess.Popen[bytes] | None = None
        self.begun_ns = self.ended_ns = 0
        self.interfaces = [*(pod.veth for pod in lab.pods), pods.UPLINK]

    @property
    def command(self) -> list[str]:
        """The command line (large buffers: a flood fills the default ones), with only the file's name of the path."""
        each = [word for name in self.interfaces for word in ("-i", name, "-f", "inbound")]
        return ["dumpcap", "-q", *each, "-B", "64", "-N", "200000", "-C", "100000000", "-w", self._path.name]

    def __enter__(self) -> Capture:
        command = [*self.command[:-1], str(self._path)]
        with self._log.open("wb") as log:
            self._child = self._lab.start("node", command, stderr=log.fileno())
        wait_for(lambda: b"File: " in self._log.read_bytes(), "dumpcap to start")
        self._await_all_interfaces()
        self.begun_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
        return self

    def _await_all_interfaces(self, after_ns: int = 0) -> None:
        """Knock from every pod until each interface is seen in the file with a packet after `after_ns`.

        dumpcap says that it captures 0.1 to 0.3 s before it does; packets of that time would be missing on
        some interfaces and present on others. At the end it holds back the last packets for a while.
        """
        knocks = {pod.name: pods.GATEWAY4 for pod in self._lab.pods} | {pods.OUTSIDE: pods.NODE_UPLINK4}
        wanted = set(self.interfaces)

        def everywhere() -> bool:
            for where, gateway in knocks.items():
                self._lab.run(where, ["ping", "-q", "-c", "1", "-W", "1", gateway])
            return {p.interface for p in read(self._path) if p.time_ns > after_ns} == wanted

        wait_for(everywhere, "dumpcap to capture on every interface", 30.0)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._child is not None
        self.ended_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
        if kind is None:
            self._await_all_interfaces(self.ended_ns)
        self._child.send_signal(signal.SIGINT)
        self._child.wait(timeout=20)
        if kind is None:
            self._refuse_losses()

    def packets(self) -> list[Packet]:
        """What was recorded, in the order of time (ties as dumpcap wrote them); call it after the end."""
        return sorted(
            (p for p in read(self._path) if self.begun_ns <= p.time_ns <= self.ended_ns), key=lambda p: p.time_ns
        )

    def _refuse_losses(self) -> None:
        text = self._log.read_text()
        told = re.findall(r"interface '(\S+)': \d+/\d+ \(pcap:(\d+)/dumpcap:(\d+)/flushed:\d+/ps_ifdrop:(\d+)\)", text)
        # What dumpcap calls flushed was still in its queue at the end, so it came after `ended_ns`: knocks.
        lost = [name for name, *counts in told if any(count != "0" for count in counts)]
        if lost or len(told) != len(self.interfaces):
            raise PacketsLostError(f"lab: dumpcap lost packets on {', '.join(lost) or 'some interface'}")
