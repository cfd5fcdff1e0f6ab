"""Operators' commands: who is believed, what follows, and that repeats change nothing."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from response.ledger import Ledger
from response.responder import Responder
from response.settings import CommandSettings, ResponseSettings
from response.signing import Operator, Signer, Verifier
from schemas.action import Action
from schemas.command import Command, Verb
from schemas.response import ResponseDecision
from schemas.word import iso_time
from tests.unit.response.cluster_cases import NOW, MemoryGateway, decision

RESPONSE = "0123456789abcdef"
SIGNERS = {
    key_id: Signer(key_id, Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)))
    for number, key_id in enumerate(("ana-1", "ana-2", "ben-1"), 1)
}
OPERATORS = {
    key_id: Operator(key_id, key_id.split("-")[0].title(), signer.key.public_key())
    for key_id, signer in SIGNERS.items()
}
TWO = ResponseSettings(commands=CommandSettings(two_person=True))


class Desk:
    """A responder with operators, and the audit of all it did."""

    def __init__(self, settings: ResponseSettings | None = None, gateway: MemoryGateway | None = None) -> None:
        self.gateway = gateway or MemoryGateway()
        self.settings = settings or ResponseSettings()
        self.audit: list[Action] = []
        self.responder = Responder(self.gateway, self.settings, "test", Ledger(), Verifier(OPERATORS))
        self._number = 0

    def decided(self, asked: ResponseDecision, now: float = NOW) -> tuple[Action, ...]:
        return self._noted(self.responder.respond(asked, now))

    def command(self, verb: Verb, target: str, key: str = "ana-1", now: float = NOW, **more: Any) -> Command:
        self._number += 1
        values = {"id": f"command-{self._number}", "cluster": "test", "issued_at": iso_time(now), **more}
        return SIGNERS[key].sign(Command(verb=verb, target=target, **values))

    def said(self, verb: Verb, target: str = RESPONSE, key: str = "ana-1", now: float = NOW, **more: Any) -> list[str]:
        return self.obeyed(self.command(verb, target, key, now, **more), now)

    def obeyed(self, command: Command, now: float = NOW) -> list[str]:
        return [f"{a.outcome} {a.reason}" for a in self._noted(self.responder.obey(command, now))]

    def looked(self, now: float) -> list[str]:
        return [f"{a.outcome} {a.reason}" for a in self._noted(self.responder.reconcile(now))]

    def restart(self) -> None:
        ledger = Ledger()
        for action in self.audit:
            ledger.fold(Action.decode(action.encode()))
        self.responder = Responder(self.gateway, self.settings, "test", ledger, Verifier(OPERATORS))

    def _noted(self, actions: tuple[Action, ...]) -> tuple[Action, ...]:
        self.audit += actions
        return actions


def waiting(settings: ResponseSettings | None = None, **changes: Any) -> Desk:
    desk = Desk(settings)
    desk.decided(decision("quarantine_pod", mode="approve", **changes))
    return desk


def test_an_approval_carries_out_and_names_the_operator() -> None:
    desk = waiting()
    assert desk.said("approve") == ["approved approval", "applied proven"]
    assert desk.audit[-1].operator == "Ana (ana-1)"
    assert desk.audit[-1].command_id == "command-1"
    assert desk.gateway.policies


def test_an_approval_after_a_restart_carries_out() -> None:
    desk = waiting()
    desk.restart()
    assert desk.said("approve") == ["approved approval", "applied proven"]


def test_two_persons_must_approve_and_two_keys_of_one_person_are_not_two() -> None:
    desk = waiting(TWO)
    assert desk.said("approve") == ["approved approval"]
    assert desk.said("approve", key="ana-2") == ["refused approved_already"]
    desk.restart()
    assert desk.said("approve", key="ana-2") == ["refused approved_already"]
    assert desk.gateway.policies == {}
    assert desk.said("approve", key="ben-1") == ["approved approval", "applied proven"]


def test_a_decision_may_ask_for_approvals_and_approvers_itself() -> None:
    desk = waiting(approvals=2, approvers=("Ben", "Cleo"))
    assert desk.said("approve") == ["refused not_an_approver"]
    assert desk.said("approve", key="ben-1") == ["approved approval"]
    assert desk.gateway.policies == {}


def test_a_rejection_holds_until_somebody_approves() -> None:
    desk = waiting()
    assert desk.said("reject", reason="a planned test") == ["rejected command"]
    again = desk.decided(decision("quarantine_pod", mode="enforce", alert_revision=2))
    assert [(a.outcome, a.reason) for a in again] == [("refused", "rejected")]
    assert "a planned test" in again[0].message
    assert desk.said("approve") == ["approved approval", "applied proven"]


def test_a_dry_run_cannot_be_approved() -> None:
    desk = Desk()
    desk.decided(decision("quarantine_pod"))
    assert desk.said("approve") == ["refused not_waiting"]
    assert desk.gateway.policies == {}


def test_revert_takes_back_for_good_also_after_a_restart() -> None:
    desk = Desk()
    desk.decided(decision("quarantine_pod", mode="enforce"))
    assert desk.said("revert") == ["reverted command"]
    assert (desk.gateway.policies, desk.gateway.pod_metadata) == ({}, {})
    desk.restart()
    (refused,) = desk.decided(decision("quarantine_pod", mode="enforce", alert_revision=2))
    assert (refused.outcome, refused.reason) == ("refused", "reverted")


def test_a_revert_that_cannot_be_done_is_done_later() -> None:
    desk = Desk()
    desk.decided(decision("quarantine_pod", mode="enforce"))
    desk.gateway.fail_on = ("undo delete",)
    assert desk.said("revert") == ["failed not_reverted"]
    desk.gateway.fail_on = ()
    assert desk.said("revert") == ["reverted command"]
    assert desk.gateway.policies == {}


def test_extend_counts_from_the_command_and_is_written_on_the_objects() -> None:
    desk = Desk()
    desk.decided(decision("quarantine_pod", mode="enforce"))
    command = desk.command("extend", RESPONSE, now=NOW + 60, seconds=7200)
    assert desk.obeyed(command, NOW + 65) == ["extended command"]
    (written,) = desk.gateway.policies.values()
    assert written["metadata"]["annotations"]["sluicegate.io/expires-at"] == iso_time(NOW + 60 + 7200)
    assert desk.looked(NOW + 7000) == []
    desk.restart()
    assert desk.looked(NOW + 7261) == ["expired expired"]


@pytest.mark.parametrize("seconds", [0, 31 * 86_400])
def test_extend_has_limits(seconds: int) -> None:
    desk = Desk()
    desk.decided(decision("quarantine_pod", mode="enforce"))
    assert desk.said("extend", seconds=seconds) == ["refused bad_seconds"]


def test_allow_cancels_what_it_covers_and_keeps_it_away() -> None:
    desk = Desk()
    desk.decided(decision("quarantine_pod", mode="enforce"))
    assert desk.said("allow", "shop/Deployment/web", reason="load test") == ["allowed command"]
    assert desk.looked(NOW + 1) == ["cancelled allowed"]
    assert desk.gateway.policies == {}
    desk.restart()
    (refused,) = desk.decided(decision("quarantine_pod", mode="enforce", alert_revision=2), NOW + 2)
    assert (refused.outcome, refused.reason) == ("refused", "allowed")
    assert "load test" in refused.message
    assert desk.said("disallow", "shop/Deployment/web", now=NOW + 3) == ["disallowed command"]
    (applied,) = desk.decided(decision("quarantine_pod", mode="enforce", alert_revision=3), NOW + 4)
    assert applied.outcome == "applied"


@pytest.mark.parametrize(
    ("target", "covered"),
    [("203.0.113.9", True), ("203.0.113.0/24", True), ("shop/*", True), ("shop/web-a", True), ("::/0", False),
     ("bank/*", False), ("shop/db-0", False)],
)  # fmt: skip
def test_an_allowed_destination_is_not_cut(target: str, covered: bool) -> None:
    desk = Desk()
    assert desk.said("allow", target) == ["allowed command"]
    (action,) = desk.decided(decision("block_egress_destination", mode="enforce"))
    assert (action.reason == "allowed") == covered, action.message


def test_an_allowed_time_ends() -> None:
    desk = Desk()
    desk.said("allow", "shop/*", seconds=60)
    (refused,) = desk.decided(decision("quarantine_pod", mode="enforce"), NOW + 59)
    (applied,) = desk.decided(decision("quarantine_pod", mode="enforce"), NOW + 61)
    assert (refused.reason, applied.outcome) == ("allowed", "applied")


@pytest.mark.parametrize("target", ["shop", "../x", "a b", "shop/", "*"])
def test_an_allow_list_entry_that_means_nothing(target: str) -> None:
    assert Desk().said("allow", target) == ["refused bad_target"]


def test_stop_takes_everything_back_and_nothing_is_applied_until_resume() -> None:
    desk = Desk()
    desk.decided(decision("quarantine_pod", mode="enforce"))
    assert desk.said("stop", "*", reason="wrong rule") == ["stopped command", "cancelled stopped"]
    assert (desk.gateway.policies, desk.gateway.pod_metadata) == ({}, {})
    desk.restart()
    (refused,) = desk.decided(decision("quarantine_pod", mode="enforce", alert_revision=2))
    assert (refused.outcome, refused.reason) == ("refused", "stopped")
    assert desk.said("resume", "*") == ["resumed command"]
    (applied,) = desk.decided(decision("quarantine_pod", mode="enforce", alert_revision=3))
    assert applied.outcome == "applied"


def test_what_stop_could_not_take_back_is_taken_back_by_the_next_look() -> None:
    desk = Desk()
    desk.decided(decision("quarantine_pod", mode="enforce"))
    desk.gateway.fail_on = ("managed",)
    assert desk.said("stop", "*") == ["stopped command", "failed forbidden"]
    desk.gateway.fail_on = ()
    assert desk.looked(NOW + 1) == ["cancelled stopped"]
    assert desk.gateway.policies == {}


def test_the_config_map_stops_and_takes_back_as_well() -> None:
    desk = Desk()
    desk.decided(decision("quarantine_pod", mode="enforce"))
    desk.gateway.switched = "ConfigMap sluicegate/sluicegate-stop exists"
    assert desk.looked(NOW + 1) == ["cancelled stopped"]
    (refused,) = desk.decided(decision("quarantine_pod", mode="enforce", alert_revision=2), NOW + 2)
    assert refused.reason == "stopped"
    assert desk.gateway.policies == {}


def test_a_kill_switch_that_cannot_be_read_stops_too() -> None:
    desk = Desk(gateway=MemoryGateway(fail_on=("kill switch",)))
    (failed,) = desk.decided(decision("quarantine_pod", mode="enforce"))
    assert (failed.outcome, failed.reason, desk.gateway.policies) == ("failed", "forbidden", {})


def test_commands_that_are_not_believed_change_nothing_and_are_audited() -> None:
    desk = Desk()
    desk.decided(decision("quarantine_pod", mode="enforce"))
    held = dict(desk.gateway.policies)
    good = desk.command("revert", RESPONSE)
    assert desk.obeyed(good.model_copy(update={"signature": ""})) == ["refused unsigned"]
    assert desk.obeyed(good.model_copy(update={"verb": "stop"})) == ["refused bad_signature"]
    assert desk.obeyed(good.model_copy(update={"key_id": "eve-1"})) == ["refused unknown_key"]
    assert desk.obeyed(good, NOW + 301) == ["refused stale"]
    other = SIGNERS["ana-1"].sign(good.model_copy(update={"cluster": "other"}))
    assert desk.obeyed(other) == ["refused other_cluster"]
    assert desk.gateway.policies == held
    assert desk.obeyed(good) == ["reverted command"], "a forgery must not use up the real command's id"


def test_a_command_is_obeyed_once_also_across_a_restart() -> None:
    desk = waiting()
    command = desk.command("approve", RESPONSE)
    desk.obeyed(command)
    desk.said("revert")
    assert desk.obeyed(command, NOW + 5) == ["refused replayed"]
    desk.restart()
    assert desk.obeyed(command, NOW + 6) == ["refused replayed"]
    assert desk.gateway.policies == {}


def test_without_public_keys_every_command_is_refused() -> None:
    acting = Responder(MemoryGateway(), ResponseSettings(), "test")
    (action,) = acting.obey(Desk().command("stop", "*"), NOW)
    assert (action.outcome, action.reason) == ("refused", "unknown_key")
