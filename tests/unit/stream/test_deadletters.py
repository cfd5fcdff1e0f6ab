import pytest

from stream.deadletters import MAX_KEPT, DeadLetterLimit, TooManyDeadLetters, dead_letter, printable
from stream.records import Incoming
from stream.settings import DeadLetterSettings


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def incoming(value: bytes | None, key: bytes | None = b"k") -> Incoming:
    return Incoming("sluicegate.events.v1", 2, 17, key, value, (("content-type", b"text/plain"),), 0.0)


def test_the_limit_is_allowed_and_one_more_is_not() -> None:
    limit = DeadLetterLimit("detect", DeadLetterSettings(limit=3, window_s=10), Clock())
    for _ in range(3):
        limit.admit("bad")
    with pytest.raises(TooManyDeadLetters, match=r"detect: more than 3 undecodable messages within 10 s.*: bad"):
        limit.admit("bad")


def test_a_window_later_there_is_room_again() -> None:
    clock = Clock()
    limit = DeadLetterLimit("detect", DeadLetterSettings(limit=1, window_s=10), clock)
    limit.admit("bad")
    clock.now += 9.9
    with pytest.raises(TooManyDeadLetters):
        limit.admit("bad")
    clock.now += 0.1
    limit.admit("bad")


def test_a_limit_of_zero_stops_at_the_first() -> None:
    with pytest.raises(TooManyDeadLetters):
        DeadLetterLimit("detect", DeadLetterSettings(limit=0), Clock()).admit("bad")


def test_original_bytes_and_origin_are_kept() -> None:
    letter = dead_letter(incoming(b"\x00\xff"), "header.cut: too\nlarge")
    assert (letter.topic, letter.key, letter.value) == ("deadletter.v1", b"k", b"\x00\xff")
    assert dict(letter.headers) == {
        "topic": b"sluicegate.events.v1",
        "partition": b"2",
        "offset": b"17",
        "reason": b"header.cut: too\\nlarge",
        "content-type": b"text/plain",
    }


def test_what_the_topic_would_refuse_is_cut_and_says_so() -> None:
    letter = dead_letter(incoming(b"x" * (MAX_KEPT + 5), b"k" * 5000), "too large")
    assert letter.value is not None
    assert letter.key is not None
    assert (len(letter.value), len(letter.key)) == (MAX_KEPT, 1024)
    assert dict(letter.headers)["original-size"] == str(MAX_KEPT + 5).encode()


def test_a_missing_value_is_kept_as_empty() -> None:
    assert dead_letter(incoming(None, None), "empty").value == b""


@pytest.mark.parametrize("text", ["\x1b[31mred", "two\nlines", "bidi \u202e", "\x00", "x" * 10_000])
def test_reasons_are_one_printable_line(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) <= 5000
