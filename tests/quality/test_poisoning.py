"""The edges that `docs/quality.md` states, from both sides; its whole table is made by `make quality`."""

from __future__ import annotations

import pytest

from tests.quality.poisoning import RAMPS, Ramp, is_caught, play

# A week of minutes takes some ten seconds of a core, more on a busy machine.
pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("ramp", RAMPS, ids=lambda ramp: ramp.detector)
def test_growth_of_this_speed_is_caught_within_a_week(ramp: Ramp) -> None:
    assert is_caught(ramp, play(ramp, ramp.caught))


@pytest.mark.parametrize("ramp", RAMPS, ids=lambda ramp: ramp.detector)
def test_growth_that_the_page_calls_hidden_is_not_caught(ramp: Ramp) -> None:
    """Who changes this changes what the page says of the edge."""
    assert not is_caught(ramp, play(ramp, ramp.hidden))
