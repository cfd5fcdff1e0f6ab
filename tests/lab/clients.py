"""The ordinary clients of the lab: `python -m tests.lab.clients BEHAVIOUR …`.

Each behaviour is a coroutine with a seed: the same seed asks the same things at the same pace.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import struct
from collections.abc import Awaitable, Callable, Iterator

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 10.0


def pace(chance: random.Random, rate: float, seconds: float) -> Iterator[float]:
    """Waiting times between events of a Poisson process of `rate` per second that ends after `seconds`."""
    spent = 0.0
    while (wait := chance.expovariate(rate)) + spent < seconds:
        spent += wait
        yield wait


async def connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """Open a connection, or None when it is refused or not answered."""
    try:
        return await asyncio.wait_for(asyncio.open_connection(host, port), CONNECT_SECONDS)
    except (OSError, TimeoutError):
        return None


async def _get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, last: bool) -> None:
    keep = "close" if last else "keep-alive"
    host = writer.get_extra_info("peername")[0]
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: lab\r\nConnection: {keep}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    await reader.readexactly(length)


async def fetch(host: str, port: int, paths: list[str]) -> bool:
    """Fetch `paths` over one connection, keep-alive until the last; False when it failed on the way."""
    opened = await connect(host, port)
    if opened is None:
        return False
    reader, writer = opened
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            for number, path in enumerate(paths):
                await _get(reader, writer, path, number == len(paths) - 1)
        return True
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
    finally:
        writer.close()


async def browse(o: argparse.Namespace) -> None:
    """Visits at random times to the targets: `--requests` pages at most over one connection, of mixed sizes."""
    chance = random.Random(o.seed)
    visits: set[asyncio.Task[bool]] = set()
    for wait in pace(chance, o.rate, o.seconds):
        await asyncio.sleep(wait)
        host = chance.choice(o.to)
        sizes = [int(chance.lognormvariate(6.3, 0.9)) for _ in range(chance.randint(1, o.requests))]
        visits.add(asyncio.create_task(fetch(host, o.port, [f"/page/{min(s, 20_000)}" for s in sizes])))
    await asyncio.gather(*visits)


async def everywhere(o: argparse.Namespace) -> None:
    """One page from every target in turn, a visit each `1 / rate` seconds."""
    for host in o.to:
        await fetch(host, o.port, ["/page/600"])
        await asyncio.sleep(1 / o.rate)


async def query(o: argparse.Namespace) -> None:
    """Questions over one long connection to each target in turn, reopened every 40 questions or so."""
    chance = random.Random(o.seed)
    waits = pace(chance, o.rate, o.seconds)
    for host in iter(lambda: chance.choice(o.to), None):
        opened = await connect(host, o.port)
        if opened is None:
            return
        reader, writer = opened
        for _ in range(chance.randint(25, 55)):
            wait = next(waits, None)
            if wait is None:
                writer.close()
                return
            await asyncio.sleep(wait)
            size = chance.randint(30, 200)
            writer.write(struct.pack("!I", size) + b"q" * size)
            (length,) = struct.unpack("!I", await asyncio.wait_for(reader.readexactly(4), ANSWER_SECONDS))
            await reader.readexactly(length)
        writer.close()


async def ports(o: argparse.Namespace) -> None:
    """Try `--count` ports from `--port` upward on the first target, one attempt each `1 / rate` seconds."""
    for port in range(o.port, o.port + o.count):
        opened = await connect(o.to[0], port)
        if opened is not None:
            opened[1].close()
        await asyncio.sleep(1 / o.rate)


async def retry(o: argparse.Namespace) -> None:
    """Try one port over and over, `--count` times."""
    for _ in range(o.count):
        opened = await connect(o.to[0], o.port)
        if opened is not None:
            opened[1].close()
        await asyncio.sleep(1 / o.rate)


async def downloads(o: argparse.Namespace) -> None:
    """`--count` files from the passive file server, each over a data connection of its own."""
    opened = await connect(o.to[0], o.port)
    assert opened is not None, "no file server"
    reader, writer = opened
    await reader.readline()
    for number in range(o.count):
        writer.write(f"{o.verb} {400 + 37 * number}\r\n".encode())
        port = int((await reader.readline()).split()[-1])
        data = await connect(o.to[0], port)
        assert data is not None, "no data connection"
        if o.verb == "ASK":
            data[1].write(b"please\r\n")
        await data[0].read()
        data[1].close()
        await reader.readline()
        await asyncio.sleep(1 / o.rate)
    writer.close()


async def _brief(host: str, port: int, http: bool) -> None:
    if http:
        await fetch(host, port, ["/page/200"])
        return
    opened = await connect(host, port)
    if opened is not None:
        opened[1].close()


async def connections(o: argparse.Namespace) -> None:
    """`--count` connections to the first target at a steady `--rate`: bare handshakes, or one page each (`--http`)."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    running: set[asyncio.Task[None]] = set()
    for number in range(o.count):
        await asyncio.sleep(max(0.0, begin + number / o.rate - loop.time()))
        task = asyncio.create_task(_brief(o.to[0], o.port, o.http))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)


BEHAVIOURS: dict[str, Callable[[argparse.Namespace], Awaitable[None]]] = {
    each.__name__: each for each in (browse, everywhere, query, ports, retry, downloads, connections)
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("behaviour", choices=sorted(BEHAVIOURS))
    parser.add_argument("--to", nargs="+", required=True, help="addresses of the servers")
    parser.add_argument("--port", type=int, default=80)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long (browse, query)")
    parser.add_argument("--rate", type=float, default=1.0, help="events a second")
    parser.add_argument("--count", type=int, default=10, help="how many (ports, retry, downloads, connections)")
    parser.add_argument("--requests", type=int, default=1, help="pages per connection at most (browse)")
    parser.add_argument("--verb", choices=("GET", "ASK"), default="GET", help="payload one or both ways")
    parser.add_argument("--http", action="store_true", help="ask for a page on each connection")
    parser.add_argument("--seed", type=int, default=1)
    return parser


async def _main(options: argparse.Namespace) -> None:
    await BEHAVIOURS[options.behaviour](options)


if __name__ == "__main__":
    asyncio.run(_main(_parser().parse_args()))
