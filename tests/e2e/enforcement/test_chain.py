"""Attack to containment with every part real; the tables of docs/enforcement.md come from `make enforcement`."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.action import Action
from tests.e2e.enforcement.attacks import BY_ATTACK, BY_PORT_53, upload_once_it_can
from tests.e2e.enforcement.chain import (
    CAST,
    FAULTS,
    JUDGED_SECONDS,
    Timeline,
    await_response,
    await_verdict,
    first_applied,
    lab_options,
    play,
    stopped_after,
)
from tests.e2e.enforcement.conftest import Enforced
from tests.e2e.enforcement.lab_cluster import LabCluster
from tests.e2e.enforcement.packets import Capture
from tests.e2e.enforcement.probers import now
from tests.e2e.enforcement.stack import Stack
from tests.e2e.enforcement.test_other_hands import DATABASE, template
from tests.lab.lab import wait_for
from tests.lab.pods import BY_NAME
from tests.lab.stage import Stage

pytestmark = [pytest.mark.e2e, pytest.mark.lab, pytest.mark.kafka, pytest.mark.timeout(600)]


def _play(name: str, cluster: LabCluster, bootstrap: str, folder: Path, *, node_agent: bool = False) -> Timeline:
    played = play(BY_ATTACK[name], cluster, bootstrap, folder, node_agent=node_agent)
    assert played.exchanges > 0
    assert played.failed == ()
    return played.timeline


def _ended_by_the_next_rung(done: Timeline) -> None:
    """Packets say that the policy does nothing; what is done then ends the attack."""
    assert done.verdict is not None
    assert (done.verdict.outcome, done.verdict.reason) == ("ineffective", "answered")
    assert done.then is not None
    assert done.then.outcome == "applied", done.then.message
    assert done.stopped


@pytest.fixture
def cluster(enforced: Enforced, bootstrap: str) -> LabCluster:
    return enforced(CAST, more_ports=[int(bootstrap.rsplit(":", 1)[1])])


def test_an_attack_is_stopped_and_nobody_else_is(cluster: LabCluster, bootstrap: str, tmp_path: Path) -> None:
    done = _play("scan", cluster, bootstrap, tmp_path)
    assert done.stopped
    assert done.packet <= done.events <= done.alert <= done.decision <= done.written
    assert done.verdict is not None
    assert done.verdict.outcome == "effective", done.verdict.message


def test_what_no_enforcer_carries_out_is_ineffective(cluster: LabCluster, bootstrap: str, tmp_path: Path) -> None:
    FAULTS["enforcer stands still"](cluster)
    done = _play("scan", cluster, bootstrap, tmp_path)
    assert not done.stopped
    assert done.verdict is not None
    assert (done.verdict.outcome, done.verdict.reason) == ("ineffective", "answered")


def test_an_upload_that_no_policy_ends_is_ended_on_the_node(
    cluster: LabCluster, bootstrap: str, tmp_path: Path
) -> None:
    """One connection, open before the policy: the policy is ineffective, says packets; then the node drops it."""
    done = _play("long_upload", cluster, bootstrap, tmp_path, node_agent=True)
    assert done.action.action == "block_egress_destination"
    _ended_by_the_next_rung(done)


def test_an_attack_over_ipv6_that_the_enforcer_was_not_told_of_is_ended_on_the_node(
    enforced: Enforced, bootstrap: str, tmp_path: Path
) -> None:
    attack, fault = BY_ATTACK["scan6"], "IPv6 is forgotten"
    cluster = enforced(CAST, more_ports=[int(bootstrap.rsplit(":", 1)[1])], **lab_options(attack, fault))
    done = _play(attack.name, cluster, bootstrap, tmp_path, node_agent=True)
    assert done.action.action == "quarantine_pod"
    _ended_by_the_next_rung(done)
    assert done.after is not None
    assert done.after.outcome == "effective", done.after.message


def test_a_connection_opened_while_its_pod_started_is_ended_on_the_node(
    cluster: LabCluster, bootstrap: str, tmp_path: Path
) -> None:
    """The policy is there before the pod; what the pod opens before the enforcer knows its address lives on."""
    attack, stage = BY_ATTACK["upload"], Stage(cluster.lab)
    pod = BY_NAME[attack.pod]
    attack.prepare(stage, tmp_path)
    with Stack(cluster, bootstrap, tmp_path, node_agent=True) as stack:
        capture = Capture(cluster.lab, tmp_path, attack.pod, attack.victims)
        attack.begin(stage, tmp_path)
        await_response(stack, attack)
        found = first_applied(stack, attack)
        assert found is not None
        assert found[1].action == "block_egress_destination"
        stands = await_verdict(stack, found[1], JUDGED_SECONDS)
        assert stands is not None
        assert stands.outcome == "effective", stands.message
        cluster.remove_pod(pod)
        cluster.add_pod(pod, running=False)
        began = now()
        upload_once_it_can(stage)
        # From here on the enforcer has forgotten the pod, and the upload does not wait to be asked.
        wait_for(lambda: max(capture.seen().answered) > began, "the way to be open", 30.0)
        opened = now()
        wait_for(lambda: max(capture.seen().answered) > opened + 2, "the race to be won", 20.0)
        cluster.run_pod(pod.namespace, pod.name, pod)
        verdict = _first(stack, stands, "ineffective")
        assert verdict.reason == "answered"
        # Until its address is known nothing can be cut there; that is said, and tried again when it is.
        cut = _first(stack, stands, "applied", "cut_on_node")
        assert stopped_after(capture, now())
        after = await_verdict(stack, cut, JUDGED_SECONDS)
        assert after is not None
        assert after.outcome == "effective", after.message
        print(f"\n{verdict.message}; cut; {after.message}")


def _first(stack: Stack, after: Action, outcome: str, name: str = "") -> Action:
    """The first step of some outcome that follows another of its response, waited for."""
    told: list[Action] = []

    def meant(item: Action) -> bool:
        return item.outcome == outcome and name in ("", item.action)

    def said() -> bool:
        steps = [Action.decode(record.value) for record in stack.records("actions.v1")]
        told[:] = [item for item in steps if item.response_id == after.response_id and item.at > after.at]
        return any(meant(item) for item in told)

    try:
        wait_for(said, f"{outcome} after {after.outcome}", JUDGED_SECONDS)
    except TimeoutError as error:
        message = f"{error}; {[f'{a.at} {a.action} {a.outcome} {a.reason}: {a.message}' for a in told]}"
        raise TimeoutError(message) from None
    return next(filter(meant, told))


def test_under_the_production_template_the_node_cuts_what_no_policy_can(
    enforced: Enforced, bootstrap: str, tmp_path: Path
) -> None:
    """An upload by the port that the template leaves open to all: the first rungs say why not, the node drops it."""
    names = ("api", "db", "client3", "dns")
    cluster = enforced(names, more_ports=[int(bootstrap.rsplit(":", 1)[1])])
    attack, stage = BY_PORT_53, Stage(cluster.lab)
    attack.prepare(stage, tmp_path)
    cluster.serve("db", port=DATABASE)
    template(cluster)
    others = [
        cluster.prober("api", "fresh", BY_NAME["db"].ip4, DATABASE),
        cluster.prober("client3", "fresh", BY_NAME["db"].ip4, DATABASE),
    ]
    before = cluster.objects()
    with Stack(cluster, bootstrap, tmp_path, node_agent=True) as stack:
        capture = Capture(cluster.lab, tmp_path, attack.pod, attack.victims)
        attack.begin(stage, tmp_path)
        await_response(stack, attack)
        found = first_applied(stack, attack)
        assert found is not None
        applied = found[1]
        told = [Action.decode(record.value) for record in stack.records("actions.v1")]
        ours = [item for item in told if item.response_id == applied.response_id]
        assert {(i.action, i.outcome, i.reason) for i in ours if i.outcome in ("applied", "refused")} == {
            ("block_egress_destination", "refused", "not_blocked"),
            ("quarantine_pod", "refused", "not_blocked"),
            ("cut_on_node", "applied", "proven"),
        }
        assert stopped_after(capture, now())
        verdict = await_verdict(stack, applied, JUDGED_SECONDS)
        assert verdict is not None
        assert verdict.outcome == "effective", verdict.message
        assert cluster.objects() == before, "nothing is written in the cluster"
        print(f"\n{applied.message}; {verdict.message}")
    for prober in others:
        assert prober.exchanges()
        assert not prober.failures()
