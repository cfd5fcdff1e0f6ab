"""Lists of an API server: what is read again, and what is not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from response.readings import Raw, Readings, read_page, read_whole, said_by


def raw(uid: str, version: str, value: str) -> Raw:
    return Raw(json.dumps({"metadata": {"uid": uid, "resourceVersion": version}, "value": value}).encode())


class Reader:
    """Notes what it read."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, document: Mapping[str, Any]) -> str:
        self.read.append(document["value"])
        return str(document["value"])


def test_only_what_changed_is_read_again() -> None:
    reader = Reader()
    readings = Readings(reader)
    first = readings.read([raw("a", "1", "one"), raw("b", "1", "two")])
    assert first == ("one", "two")
    assert readings.read([raw("a", "1", "one"), raw("b", "1", "two")]) is first
    assert readings.read([raw("b", "2", "three"), raw("a", "1", "one")]) == ("three", "one")
    assert reader.read == ["one", "two", "three"]


def test_what_is_gone_is_forgotten_and_a_namesake_is_another() -> None:
    reader = Reader()
    readings = Readings(reader)
    readings.read([raw("a", "1", "one")])
    assert readings.read([]) == ()
    assert readings.read([raw("a", "1", "one")]) == ("one",)
    assert readings.read([raw("other", "1", "new")]) == ("new",)
    assert reader.read == ["one", "one", "new"]


def test_what_bears_no_version_is_always_read() -> None:
    reader = Reader()
    readings = Readings(reader)
    for value in ("one", "two"):
        assert readings.read([raw("", "", value), raw("a", "", value)]) == (value, value)
    assert len(reader.read) == 4


def test_a_page_keeps_its_objects_as_they_were_sent() -> None:
    page = read_page(b'{"kind": "PodList", "metadata": {"continue": "x"}, "items": [{"a": {"b": [1, null]}}, {}]}')
    assert [read_whole(item) for item in page.items or ()] == [{"a": {"b": [1, None]}}, {}]
    assert page.metadata.onward == "x"
    last = read_page(b'{"items": null, "metadata": {}}')
    assert (last.items, last.metadata.onward) == (None, None)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"items": 1}', b'{"items": [', b"\xff"])
def test_what_is_no_list_is_an_error(body: bytes) -> None:
    with pytest.raises(ValueError, match="no list of objects"):
        read_page(body)


def test_an_object_of_another_shape_is_an_error() -> None:
    for text in (b"[]", b'{"metadata": 1}', b'{"metadata": {"uid": 7}}'):
        with pytest.raises(ValueError, match="no object"):
            Readings(Reader()).read([Raw(text)])


def test_what_a_server_says_of_a_refusal() -> None:
    assert said_by(b'{"kind": "Status", "message": "no"}') == "no"
    assert said_by(b"<html>") == ""
