"""What is taken back is gone: packets pass again, and the cluster's objects are what they were."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from response.responder import Responder
from schemas.action import Action
from schemas.response import ActionName
from tests.e2e.enforcement.conftest import Enforced, Respond
from tests.e2e.enforcement.decisions import TTL_S, decision
from tests.e2e.enforcement.probers import now
from tests.lab.pods import BY_NAME

pytestmark = [pytest.mark.e2e, pytest.mark.lab, pytest.mark.timeout(300)]

WEB, ATTACKER, CLIENT = (BY_NAME[name] for name in ("web", "attacker", "client1"))
Undo = Callable[[Responder, Action], tuple[Action, ...]]


def _reverted(responder: Responder, action: Action) -> tuple[Action, ...]:
    return responder.revert(action.response_id, "alice", now())


def _expired(responder: Responder, action: Action) -> tuple[Action, ...]:
    assert responder.expire(now()) == (), "before its time"
    return responder.expire(now() + TTL_S)


@pytest.mark.parametrize("undo", [_reverted, _expired])
@pytest.mark.parametrize("name", ["quarantine_pod", "block_egress_destination", "block_ingress_source"])
def test_nothing_is_left_of_a_containment(name: ActionName, undo: Undo, enforced: Enforced, respond: Respond) -> None:
    cluster = enforced(("web", "attacker", "client1"))
    cluster.serve("web")
    attack = cluster.prober("attacker", "fresh", WEB.ip4)
    neighbour = cluster.prober("client1", "fresh", WEB.ip4)
    before = cluster.objects()
    responder = respond(cluster)
    began = now()
    (action,) = responder.respond(decision(ATTACKER, WEB, began, name), began)
    assert action.outcome == "applied", action.message
    attack.closed(began)
    contained = cluster.objects()
    assert contained != before
    # Nobody has touched it, so a look at it finds nothing to do.
    assert responder.reconcile(now()) == ()
    assert cluster.objects() == contained
    lifted = now()
    (undone,) = undo(responder, action)
    assert undone.outcome in ("reverted", "expired"), undone.message
    attack.opened(lifted)
    assert cluster.objects() == before
    assert not neighbour.failures()
