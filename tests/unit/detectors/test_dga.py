"""DGA: what looks generated, what a client is judged by, and where the table of letters comes from."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from detectors.letter_pairs import PAIRS, looks_generated
from detectors.names import registered_labels
from tests.event_rows import Row, query
from tests.unit.detectors.test_claim_detectors import play, run, worst

CLIENT = "10.0.0.9"
LISTS = [Path("/usr/share/dict") / name for name in ("american-english", "french", "spanish", "ngerman", "italian")]


def generated(count: int, seed: int = 1, top: str = "com") -> list[str]:
    chance = random.Random(seed)
    return ["".join(chance.choices("bcdfghjklmnpqrstvwxz", k=12)) + f".{top}" for _ in range(count)]


def asked(names: list[str], seconds: int = 30, **more: Any) -> dict[int, dict[str, list[Row]]]:
    """The names, evenly over some seconds."""
    rows = [query(CLIENT, name, **more) for name in names]
    return {at: {"dns": rows[at - 1 :: seconds]} for at in range(1, seconds + 1) if rows[at - 1 :: seconds]}


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("kubernetes", False), ("documentation", False), ("wikipedia", False), ("stackoverflow", False),
        ("bahnhofstrasse", False), ("web2024", False), ("xkcd", False), ("", False), ("xn--bcher-kva", False),
        ("qxzvkjwpt", True), ("o0o01f10s61v5va", True), ("gsrpghlgfghk", True), ("hkfvyuxzxdvxjfwe", True),
    ],
)  # fmt: skip
def test_labels(label: str, expected: bool) -> None:
    assert looks_generated(pa.array([label])).tolist() == [expected]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("www.example.com", "example"), ("a.b.example.co.uk", "example"), ("x.host7.ddns.net", "host7"),
        ("d1a2b3c4.cloudfront.net", "cloudfront"), ("localhost", ""), ("4.3.2.1.in-addr.arpa", "in-addr"), ("", ""),
    ],
)  # fmt: skip
def test_registered_labels(name: str, label: str) -> None:
    assert registered_labels(pa.array([name])).to_pylist() == [label]


def test_many_generated_names_are_found_and_a_few_are_not() -> None:
    assert worst(run(play(asked(generated(13), rcode=3))), "dga") == "medium"
    assert worst(run(play(asked(generated(13)))), "dga") == "low"
    assert worst(run(play(asked(generated(12), rcode=3))), "dga") is None


def test_among_many_ordinary_names_only_missing_ones_count() -> None:
    ordinary = [f"{a}{b}.com" for a in ("water", "green", "north", "silver", "market", "garden", "summer")
                for b in ("river", "house", "stone", "field", "wood", "light", "paper", "table")]  # fmt: skip
    names = ordinary + generated(13)
    assert worst(run(play(asked(names))), "dga") is None
    assert worst(run(play(asked(names, rcode=3))), "dga") == "medium"


def test_one_name_again_and_again_is_one_name() -> None:
    assert worst(run(play(asked(generated(3) * 20, rcode=3))), "dga") is None


def test_hashes_in_front_of_one_domain_are_one_domain() -> None:
    names = [f"{name.split('.')[0]}.cloudfront.net" for name in generated(60)]
    assert worst(run(play(asked(names))), "dga") is None
    assert worst(run(play(asked([n.replace("cloudfront", "ddns") for n in names], rcode=3))), "dga") == "medium"


WORDS = ("river", "house", "stone", "field", "light", "paper", "table", "market", "garden", "summer", "winter", "sea")


def put_together(parts: int, count: int) -> list[str]:
    chance = random.Random(5)
    return list(dict.fromkeys("".join(chance.choices(WORDS, k=parts)) + ".com" for _ in range(count)))


def test_names_that_run_on_are_low_as_nobody_says_they_do_not_exist() -> None:
    assert worst(run(play(asked(put_together(4, 30)))), "dga") == "low"
    hyphens = ["-".join(WORDS[n : n + 4]) + f"{n}.com" for n in range(9)] * 3
    assert worst(run(play(asked(hyphens))), "dga") is None


def test_many_domains_that_do_not_exist_are_told_whatever_they_look_like() -> None:
    missing = asked(put_together(2, 70)[:41], rcode=3)
    assert worst(run(play(missing)), "dga") == "medium"
    assert worst(run(play(asked(put_together(2, 70)[:40], rcode=3))), "dga") is None


def test_a_crawler_with_fewer_dead_links_than_live_ones_is_silent() -> None:
    chance = random.Random(6)
    live = [f"{chance.choice(WORDS)}{n}.org" for n in range(60)]
    seconds = asked(put_together(2, 80)[:50], rcode=3)
    for at, kinds in asked(live).items():
        # What it asked before, so that the share is below at every moment.
        seconds.setdefault(at, {"dns": []})["dns"] = kinds["dns"] + seconds.get(at, {"dns": []})["dns"]
    assert worst(run(play(seconds)), "dga") is None


def test_who_asks_for_everything_is_a_crawler() -> None:
    assert worst(run(play(asked(generated(2001), seconds=1))), "dga") == "low"


def _counted() -> npt.NDArray[np.float64]:
    shares = np.zeros((26, 26))
    for path in LISTS:
        raw = path.read_bytes()
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
        plain = unicodedata.normalize("NFKD", text.lower()).encode("ascii", "ignore").decode()
        words = (word.split("'")[0] for word in plain.split())
        letters = np.frombuffer("\n".join(w for w in words if w.isalpha() and len(w) > 2).encode(), np.uint8)
        first, second = letters[:-1].astype(np.int64) - 97, letters[1:].astype(np.int64) - 97
        inside = (first >= 0) & (second >= 0)
        pairs = np.bincount(first[inside] * 26 + second[inside], minlength=676).reshape(26, 26)
        shares += pairs / pairs.sum() / len(LISTS)
    after = shares / shares.sum(axis=1, keepdims=True)
    likelier: npt.NDArray[np.float64] = np.log2((after + 0.0005) / (1 + 0.0005 * 26) * 26)
    return likelier


@pytest.mark.skipif(not all(p.exists() for p in LISTS), reason="needs Debian's word lists of five languages")
def test_the_table_is_what_the_word_lists_give() -> None:
    # Other releases of the lists move an entry by a tenth of a bit or two.
    assert np.abs(np.rint(_counted() * 10) - PAIRS).max() <= 3
