"""Attack to containment with every part real; the tables of docs/enforcement.md come from `make enforcement`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.enforcement.attacks import BY_ATTACK
from tests.e2e.enforcement.chain import CAST, play
from tests.e2e.enforcement.conftest import Enforced

pytestmark = [pytest.mark.e2e, pytest.mark.lab, pytest.mark.kafka, pytest.mark.timeout(600)]


@pytest.mark.parametrize("name", ["scan", "dns"])
def test_the_attack_is_stopped_and_nobody_else_is(
    name: str, enforced: Enforced, bootstrap: str, tmp_path: Path
) -> None:
    cluster = enforced(CAST, more_ports=[int(bootstrap.rsplit(":", 1)[1])])
    played = play(BY_ATTACK[name], cluster, bootstrap, tmp_path)
    assert played.timeline.stopped
    assert played.timeline.packet <= played.timeline.answered
    assert played.exchanges > 0
    assert played.failed == ()
