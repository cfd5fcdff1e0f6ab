from __future__ import annotations

import pytest
from pydantic import ValidationError

from alerts.settings import AlertSettings, EpisodeSettings, IncidentSettings, SequenceSettings
from alerts.suppression import SILENCED_BY


def test_defaults_are_pinned() -> None:
    assert AlertSettings().model_dump() == {
        "episodes": {
            "max_open": 1024, "reserved_percent": 25, "spacing": 10, "growth": 2.0, "confidence_step": 0.1,
            "refresh": 3600,
        },
        "incidents": {
            "window": 600, "patience": 7200, "open_severity": "medium", "max_open": 1000, "max_alerts": 500,
            "max_pending": 10_000, "max_seen": 8192,
        },
        "sequences": {"max_alerts": 2048, "max_clusters": 16},
    }  # fmt: skip


def test_every_setting_explains_itself_and_unknown_ones_are_refused() -> None:
    for model in (EpisodeSettings, IncidentSettings, SequenceSettings):
        assert all(field.description for field in model.model_fields.values())
    with pytest.raises(ValidationError):
        AlertSettings.model_validate({"episodes": {"max_opened": 5}})


def test_no_silencer_is_silenced_itself() -> None:
    # Findings of a tick are taken in two rounds: those that can silence, then those that can be silenced.
    assert not set(SILENCED_BY) & set().union(*SILENCED_BY.values())
