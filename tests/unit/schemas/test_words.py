from __future__ import annotations

import datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.addresses import UNSPECIFIED, is_ipv4, pack, unpack
from schemas.alert import Alert, Watermark, decode_alert_record
from schemas.finding import Evidence
from schemas.inventory import InventoryObject
from schemas.topics import DEFAULT_PREFIX, TOPICS
from schemas.word import MAX_WORD_BYTES, WordError, from_iso, iso_time
from tests.unit.schemas.messages import addresses


@given(addresses)
def test_addresses_come_back_in_their_plain_form(text: str) -> None:
    packed = pack(text)
    assert len(packed) == 16
    assert pack(unpack(packed)) == packed
    assert is_ipv4(packed) == ("." in unpack(packed))


def test_mapped_and_plain_ipv4_are_one_address() -> None:
    assert pack("::ffff:10.0.0.1") == pack("10.0.0.1")
    assert (unpack(pack("10.0.0.1")), unpack(UNSPECIFIED)) == ("10.0.0.1", "::")
    with pytest.raises(ValueError, match="16 bytes, not 4"):
        unpack(b"\x0a\0\0\1")
    with pytest.raises(ValueError, match="nowhere"):
        pack("nowhere")


@given(st.integers(0, 1 << 34))
def test_times_come_back(seconds: int) -> None:
    assert from_iso(iso_time(seconds)) == seconds


def test_times_are_utc_with_milliseconds_and_name_their_zone() -> None:
    assert iso_time(1_700_000_000.25) == "2023-11-14T22:13:20.250Z"
    assert (
        from_iso("2023-11-14T23:13:20+01:00")
        == datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.UTC).timestamp()
    )
    for text in ("2023-11-14T22:13:20", "yesterday"):
        with pytest.raises(ValueError, match=text):
            from_iso(text)


def test_equal_words_are_equal_bytes_and_unknown_fields_are_ignored() -> None:
    one = Watermark(sender="detect/0", tick=1, senders=1)
    value = one.encode()
    assert value == b'{"sender":"detect/0","senders":1,"tick":1,"type":"watermark"}'
    assert decode_alert_record(value) == Watermark.decode(value[:-1] + b',"later":[1]}') == one


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (b"", "alert record: not JSON"),
        (b"[]", "alert record"),
        (b'{"type":"other"}', "alert record"),
        (b'{"type":"watermark","sender":"x","tick":1,"senders":0}', "alert record.watermark.senders: "),
        (b" " * (MAX_WORD_BYTES + 1), "1048577 bytes, more than 1048576"),
        (b'{"type":"alert"}', "alert record.alert.id: Field required"),
    ],
)
def test_what_is_no_alert_record_is_said_in_one_line(value: bytes, complaint: str) -> None:
    with pytest.raises(WordError) as problem:
        decode_alert_record(value)
    assert complaint in str(problem.value)
    assert "\n" not in str(problem.value)


def test_a_wrong_field_is_named() -> None:
    with pytest.raises(WordError, match=r"InventoryObject\.ips\.1: Input should be a valid string"):
        InventoryObject.decode(orjson.dumps({"kind": "Pod", "uid": "u", "name": "p", "ips": ["10.0.0.1", 2]}))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_json_cannot_hold_are_refused(value: float) -> None:
    with pytest.raises(ValidationError):
        Evidence(name="x", value=value)
    with pytest.raises(ValidationError):
        Evidence(name="x", value=1, limit=value)


def test_words_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Watermark(sender="detect/0", tick=1, senders=1).tick = 2  # type: ignore[misc]
    assert Alert.model_config["frozen"]


def test_topics_are_named_once() -> None:
    names = [topic.name() for topic in TOPICS]
    assert len(set(names)) == len(names) == 14
    assert all(name.startswith(f"{DEFAULT_PREFIX}.") and name.endswith(".v1") for name in names)
    assert {t.word for t in TOPICS if t.fixed} >= {"alerts.v1", "incidents.v1", "inventory.v1"}


def test_a_policy_is_written_as_the_api_writes_it() -> None:
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "::/0"}}]}]}
    told = {"kind": "NetworkPolicy", "uid": "p", "namespace": "shop", "name": "out", "policy": spec}
    item = InventoryObject.decode(orjson.dumps(told))
    written = orjson.loads(item.encode())["policy"]
    assert written["egress"][0]["to"][0]["ipBlock"] == {"cidr": "::/0", "except": []}
    assert written["policyTypes"] == ["Egress"]
    assert InventoryObject.decode(item.encode()) == item


def test_lists_of_the_inventory_are_bounded() -> None:
    told = {"kind": "EndpointSlice", "uid": "e", "name": "web", "endpoints": [{"address": "10.0.0.1"}] * 1001}
    with pytest.raises(WordError, match=r"InventoryObject\.endpoints: Tuple should have at most 1000"):
        InventoryObject.decode(orjson.dumps(told))
    rules: dict[str, object] = {"podSelector": {}, "ingress": [{}] * 4097}
    with pytest.raises(WordError, match=r"InventoryObject\.policy\.ingress: Tuple should have at most 4096"):
        InventoryObject.decode(orjson.dumps({**told, "endpoints": [], "policy": rules}))
