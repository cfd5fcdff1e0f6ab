from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from sluicegate.terminal import WIDTH, cell, console, escape, shortened, table, wrapped


def test_what_could_steer_a_terminal_is_written_out() -> None:
    assert (
        escape("a\x1b[2Jb\rc\nd\u202ee\u2028f\udcffg\U000e0001")
        == "a\\x1b[2Jb\\x0dc\\x0ad\\u202ee\\u2028f\\udcffg\\U000e0001"
    )


def test_ordinary_text_of_any_language_stays() -> None:
    text = "web → db: 12 µs, Größe, 日本, [bold]not markup[/bold] :smile:"
    assert escape(text) == text


@given(st.text())
def test_nothing_unprintable_is_left(text: str) -> None:
    assert all(c == " " or c.isprintable() or c.isspace() for c in escape(text))
    assert not any(c in escape(text) for c in "\x00\x07\x08\x1b\r\n\x7f\x9b\u202e\u2066\u2028")


@given(st.text())
def test_escaping_can_be_encoded(text: str) -> None:
    escape(text).encode()


def test_cells_take_no_markup_and_lines_stay_within_the_width() -> None:
    stream = io.StringIO()
    made = table("a", "b")
    made.add_row(cell("[red]x[/red] \x1b[31m"), cell("y" * 300))
    console(stream).print(made)
    assert "[red]x[/red] \\x1b[31m" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
    assert max(map(len, stream.getvalue().splitlines())) <= WIDTH


@given(st.text(max_size=400), st.integers(1, 50))
def test_shortened_text_fits(text: str, limit: int) -> None:
    assert len(shortened(text, limit)) <= max(limit, 0) or len(text) <= limit


@given(st.text(max_size=400))
def test_wrapped_text_fits(text: str) -> None:
    assert all(len(line) <= WIDTH for line in wrapped(text))
