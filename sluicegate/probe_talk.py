"""What the pods of an enforcement probe do: `python -m sluicegate.probe_talk serve PORT|open …|shut …`.

    serve PORT                  answers every connection with one byte
    open ADDRESS PORT SECONDS   ends with 0 at the first connection that is answered, with 1 if none was
    shut ADDRESS PORT SECONDS   ends with 0 once several in a row were not answered, with 1 if that never happened

Kept to the standard library, and short: it is what a stranger's cluster is asked to run.
"""

from __future__ import annotations

import socket
import sys
import time

_TRY_S, _PAUSE_S = 1.0, 0.2
_ROW = 5  # failures of which each may have been an accident


def serve(port: int) -> None:
    """Answer for ever, one connection after the other, over both families."""
    with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        while True:
            with listener.accept()[0] as peer:
                peer.sendall(b".")


def answered(address: str, port: int) -> bool:
    """Whether one new connection is answered."""
    try:
        with socket.create_connection((address, port), timeout=_TRY_S) as peer:
            return peer.recv(1) == b"."
    except OSError:
        return False


def seen(wanted: bool, address: str, port: int, seconds: float) -> bool:
    """Whether connections came to be answered, or not to be, within so many seconds."""
    row, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        row = row + 1 if answered(address, port) == wanted else 0
        if row >= (1 if wanted else _ROW):
            return True
        time.sleep(_PAUSE_S)
    return False


def main(words: list[str]) -> int:
    """Do what the words say; returns the exit code."""
    if words[0] == "serve":
        serve(int(words[1]))
    return 0 if seen(words[0] == "open", words[1], int(words[2]), float(words[3])) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
