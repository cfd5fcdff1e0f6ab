"""The captures that an agent of a node makes: few at once, in a directory that has room for them, each told of."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import structlog

from response.guard import Refusal
from response.node.captured import Captured
from response.node.kernel_tools import ToolError
from response.node.settings import NodeAgentSettings
from schemas.node_command import Capture, NodeCommand
from stream.packet_capture import capture

log = structlog.get_logger("stream.node_captures")

# Each keeps a thread busy, and the agent needs some for the tables.
MAX_RUNNING = 2
_BUSY = Refusal("busy", f"{MAX_RUNNING} captures run already")
# Called with the command, the address and what came of it.
Told = Callable[[NodeCommand, str, Captured | Refusal], None]


class NodeCaptures:
    """Runs captures of signed commands; for use in one event loop.

    Args:
        settings: the agent's bounds.
        locate: the interface of a pod's address. May raise ToolError.
        told: takes what came of each.
    """

    def __init__(self, settings: NodeAgentSettings, locate: Callable[[str], str], told: Told) -> None:
        self._settings = settings
        self._locate = locate
        self._told = told
        # By response: what says stop to its captures.
        self._running: dict[asyncio.Task[None], tuple[str, threading.Event, int]] = {}

    def start(self, command: NodeCommand) -> None:
        """Begin what a command asks for; what cannot be begun is told at once."""
        for wanted in command.captures:
            if len(self._running) >= MAX_RUNNING:
                self._told(command, wanted.address, _BUSY)
                continue
            stop = threading.Event()
            task = asyncio.create_task(
                self._run(command, wanted, stop, sum(held[2] for held in self._running.values()))
            )
            self._running[task] = (command.response_id, stop, wanted.bytes)
            task.add_done_callback(lambda done: self._running.pop(done, None))

    def stop(self, response_id: str) -> None:
        """End the captures of a response; what they have is kept and told."""
        for owner, stop, _ in self._running.values():
            if owner == response_id:
                stop.set()

    async def close(self) -> None:
        """End all of them."""
        for _, stop, _ in self._running.values():
            stop.set()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _run(self, command: NodeCommand, wanted: Capture, stop: threading.Event, promised: int) -> None:
        found = await asyncio.to_thread(self._capture, command, wanted, stop, promised)
        if isinstance(found, Refusal):
            log.warning("not captured", reason=found.reason, error=found.message)
        else:
            log.info("captured", file=found.file, packets=found.packets, sha256=found.sha256)
        self._told(command, wanted.address, found)

    def _capture(
        self, command: NodeCommand, wanted: Capture, stop: threading.Event, promised: int
    ) -> Captured | Refusal:
        folder = self._settings.capture_dir
        if folder is None:
            return Refusal("no_capture_dir", "no captures are made on this node: see node_agent.capture_dir")
        refusal = self._refuse_room(folder, wanted.bytes + promised)
        if refusal is not None:
            return refusal
        path = folder / file_name(command, wanted.address)
        if path.exists():
            return Refusal("made_already", f"{path.name} is there already")
        try:
            interface = self._locate(wanted.address)
        except (ToolError, ValueError) as error:
            return Refusal(getattr(error, "reason", "bad_entry"), str(error))
        return capture(interface, wanted, path, stop.is_set)

    def _refuse_room(self, folder: Path, more: int) -> Refusal | None:
        try:
            # A part is promised its whole size already.
            held = sum(item.stat().st_size for item in folder.iterdir() if item.suffix == ".pcap")
        except OSError as error:
            return Refusal("no_capture_dir", f"{folder}: {error.strerror or error}")
        room = self._settings.capture_room
        if held + more <= room:
            return None
        message = f"{held} bytes are held and up to {more} would come; {room} fit: take captures away from {folder}"
        return Refusal("no_room", message)


def file_name(command: NodeCommand, address: str) -> str:
    """What a capture is called: the response, the pod's address without colons, and when it was asked for."""
    at = "".join(character for character in command.issued_at if character.isdigit())[:17]
    return f"{command.response_id}_{ip_address(address).exploded.replace(':', '')}_{at}.pcap"
