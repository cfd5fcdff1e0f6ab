from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from stream.connection import ConnectionProblem, client_arguments, password, tls_context
from stream.settings import (
    DeadLetterSettings,
    HealthSettings,
    KafkaSettings,
    StreamSettings,
    TopicSettings,
    WorkerSettings,
)

MODELS: list[type[BaseModel]] = [KafkaSettings, TopicSettings, WorkerSettings, DeadLetterSettings, HealthSettings]


@pytest.mark.parametrize("model", MODELS)
def test_every_setting_says_what_it_is(model: type[BaseModel]) -> None:
    assert [name for name, f in model.model_fields.items() if not f.description] == []


def test_defaults_are_decisions_and_pinned() -> None:
    dump = StreamSettings().model_dump(exclude={"kafka"})
    assert dump == {
        "topics": {"event_partitions": 4, "rollup_partitions": 2, "state_partitions": 4, "replication": 1},
        "worker": {
            "instance": "",
            "session_timeout_s": 12.0,
            "buffer_messages": 128,
            "feed_messages": 128,
            "feed_linger_s": 0.05,
            "delivery_timeout_s": 300.0,
            "poll_records": 100,
            "fetch_bytes": 5 << 20,
            "fetch_wait_ms": 50,
            "checkpoint_interval_s": 10.0,
            "checkpoint_share": 0.1,
            "checkpoint_bytes": 512 << 20,
            "checkpoint_chain": 64,
            "commit_interval_s": 1.0,
            "pending_sends": 10_000,
            "quiet_s": 10.0,
            "linger_ms": 2,
            "stop_deadline_s": 25.0,
        },
        "dead_letters": {"limit": 1000, "window_s": 60.0},
        "health": {"host": "127.0.0.1", "port": 9464, "stall_s": 60.0, "check_interval_s": 2.0},
    }


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"bootstrap": "nowhere"}, "bootstrap"),
        ({"bootstrap": "a:1, b:2"}, "bootstrap"),
        ({"prefix": "a.b"}, "prefix"),
        ({"prefix": "../x"}, "prefix"),
        ({"security": "sasl_tls"}, "sasl_username"),
        ({"certificate_file": "/c.pem"}, "key_file"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_wrong_broker_settings_are_refused_by_name(wrong: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError, match=place):
        KafkaSettings(**wrong)


def test_a_session_longer_than_a_request_is_refused() -> None:
    with pytest.raises(ValidationError, match="session_timeout_s"):
        StreamSettings(kafka=KafkaSettings(request_timeout_s=5))


def test_the_password_never_shows() -> None:
    settings = KafkaSettings(security="sasl_plaintext", sasl_username="u", sasl_password="geheim")
    assert "geheim" not in repr(settings)
    assert client_arguments(settings, "test")["sasl_plain_password"] == "geheim"


def test_the_password_file_wins_and_its_line_end_is_not_part_of_it(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("von-datei\n")
    settings = KafkaSettings(sasl_password="x", sasl_password_file=file)
    assert password(settings) == "von-datei"


def test_missing_files_are_one_line_that_names_them(tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    with pytest.raises(ConnectionProblem, match=r"ca\.pem"):
        tls_context(KafkaSettings(security="tls", ca_file=missing))
    with pytest.raises(ConnectionProblem, match="sasl_password_file"):
        password(KafkaSettings(sasl_password_file=missing))


def test_plaintext_uses_no_tls() -> None:
    arguments = client_arguments(KafkaSettings(), "test")
    assert arguments["security_protocol"] == "PLAINTEXT"
    assert "ssl_context" not in arguments
