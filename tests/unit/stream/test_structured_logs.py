import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from stream.structured_logs import configure_logs


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines_of(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_our_lines_and_the_libraries_are_json_with_our_name() -> None:
    stream = io.StringIO()
    configure_logs("info", stream)
    structlog.get_logger("stream.x").info("hello", partition=3)
    logging.getLogger("aiokafka.x").warning("theirs %d", 7)
    ours, theirs = lines_of(stream)
    assert (ours["event"], ours["service"], ours["partition"], ours["level"]) == ("hello", "sluicegate", 3, "info")
    assert (theirs["event"], theirs["service"]) == ("theirs 7", "sluicegate")


def test_a_line_stays_a_line_and_a_traceback_too() -> None:
    stream = io.StringIO()
    configure_logs("info", stream)
    structlog.get_logger("x").warning("bad\nline", reason="\x1b[31m")
    try:
        int("x")
    except ValueError:
        structlog.get_logger("x").exception("failed")
    assert "\x1b" not in stream.getvalue()
    first, second = lines_of(stream)
    assert first["event"] == "bad\nline"
    assert "ValueError" in str(second["exception"])


def test_the_libraries_news_are_left_out() -> None:
    stream = io.StringIO()
    configure_logs("info", stream)
    logging.getLogger("faust.x").info("chatter")
    assert stream.getvalue() == ""
