"""What a probe's pods tell of connections: that they are answered, that they are not."""

from __future__ import annotations

import socket
import threading

import pytest

from sluicegate import probe_talk


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_talk, "_PAUSE_S", 0.01)
    monkeypatch.setattr(probe_talk, "_TRY_S", 0.2)


def silent() -> tuple[socket.socket, int]:
    """A listener that takes connections and says nothing: a policy that drops looks like this."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    return listener, listener.getsockname()[1]


@pytest.mark.usefixtures("quick")
def test_what_is_answered_is_open_and_not_shut() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    threading.Thread(target=probe_talk.serve, args=(port,), daemon=True).start()
    assert probe_talk.main(["open", "127.0.0.1", str(port), "20"]) == 0
    assert probe_talk.main(["shut", "127.0.0.1", str(port), "0.3"]) == 1


@pytest.mark.usefixtures("quick")
def test_what_is_not_answered_is_shut_and_not_open() -> None:
    listener, port = silent()
    with listener:
        assert probe_talk.main(["shut", "127.0.0.1", str(port), "20"]) == 0
        assert probe_talk.main(["open", "127.0.0.1", str(port), "0.3"]) == 1


@pytest.mark.usefixtures("quick")
def test_one_lost_connection_is_not_shut(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False, False, True, *[False] * 4, True, *[False] * 5])
    monkeypatch.setattr(probe_talk, "answered", lambda *_: next(answers))
    assert probe_talk.seen(False, "127.0.0.1", 1, 20)
    assert list(answers) == []
