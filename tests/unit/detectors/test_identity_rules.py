"""Rules that count by pod, workload, namespace, Service or node: addresses of one count together, strangers apart."""

from __future__ import annotations

import pytest

from detectors.detect import DetectEngine
from detectors.identity_keys import BYS, By
from detectors.rule_detector import rule_detectors
from detectors.rule_file import RuleError, load_rule_file, load_rules
from detectors.settings import EngineSettings
from schemas.alert import Alert
from schemas.event_codec import EventMessage
from schemas.finding import Finding
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from stream.pipeline import Pipeline
from stream.stages import Parts, PipelineSettings
from tests.event_rows import BEGIN, Node, Row, flow, query

ONE, TWO, STRANGER, LONE = "10.0.0.1", "10.0.0.2", "198.51.100.7", "10.0.0.3"
WEB: dict[str, object] = {"kind": "Pod", "namespace": "shop", "workload": "Deployment/web", "node": "n9",
                          "labels": {"app": "web"}}  # fmt: skip


def stated(**fields: object) -> InventoryObject:
    return InventoryObject.model_validate({"uid": fields["name"], **fields})


INVENTORY = (
    stated(**WEB, name="web-1", ips=(ONE,)), stated(**WEB, name="web-2", ips=(TWO,)),
    stated(kind="Pod", namespace="shop", name="debug", ips=(LONE,), node="n9"),
    stated(kind="Service", namespace="shop", name="front", selector={"app": "web"}, ips=("10.96.0.9",)),
)  # fmt: skip


def text(by: str, condition: str = "connection_attempts > 10", more: str = "") -> str:
    return f"detection_rules:\n  - name: many\n    condition: {condition}\n    by: {by}\n{more}"


def fire(rules: str, messages: list[EventMessage], inventory: tuple[InventoryObject, ...] = INVENTORY,
         size: int = 1) -> list[Finding]:  # fmt: skip
    engine = DetectEngine(0, EngineSettings(), rule_detectors(load_rules(rules)), IdentityTable(inventory))
    steps = [messages[at : at + size] for at in range(0, len(messages), size)]
    return [f for step in steps for tick in engine.feed(step).ticks for f in tick.findings if f.rule == "many"]


def flows(src: str, count: int, first: int = 0) -> list[Row]:
    return [flow(src, f"203.0.113.{number}", 443) for number in range(first, first + count)]


def second(rows: list[Row], at: int = 1) -> list[EventMessage]:
    node = Node()
    return [node.second(at, flows=rows), node.second(at + 90)]


@pytest.mark.parametrize(
    ("by", "subject"),
    [("workload", "workload shop/Deployment/web@node1"), ("namespace", "namespace shop@node1"),
     ("service", "service shop/front@node1"), ("node", "node n9@node1")],
)  # fmt: skip
def test_what_two_pods_do_counts_together(by: str, subject: str) -> None:
    rows = [*flows(ONE, 6), *flows(TWO, 5, first=6)]
    (found,) = fire(text(by), second(rows))
    assert (found.subject, found.evidence[0].value) == (subject, 11)
    assert found.attackers[0].identity == "known"
    assert fire(text(by), second(rows[:-1])) == []
    assert fire(text("pod"), second(rows)) == fire(text("address"), second(rows)) == []


def test_a_pod_is_named_and_one_that_nobody_made_is_its_own_workload() -> None:
    (found,) = fire(text("pod"), second(flows(ONE, 11)))
    assert (found.subject, found.attackers[0].pod, found.attackers[0].namespace) == (
        "pod shop/web-1@node1",
        "web-1",
        "shop",
    )
    (found,) = fire(text("workload"), second(flows(LONE, 11)))
    assert found.subject == "workload shop/Pod/debug@node1"


def test_strangers_are_a_key_of_their_own_that_says_so() -> None:
    for by in BYS:
        rows = [*flows(STRANGER, 6), *flows("198.51.100.8", 6, first=6), *flows(ONE, 3)]
        (found,) = fire(text(by), second(rows))
        assert (found.subject, found.attackers[0].identity) == (f"{by} unknown@node1", "unknown")
        assert f"all addresses without a known {by}" in found.summary
        assert found.evidence[0].value == 12


def test_distinct_things_count_once_for_all_pods() -> None:
    rules = text("workload", "unique_destinations > 9")
    assert fire(rules, second([*flows(ONE, 9), *flows(TWO, 9)])) == []
    (found,) = fire(rules, second([*flows(ONE, 9), *flows(TWO, 9, first=1)]))
    assert found.evidence[0].value == 10


def test_dns_clients_and_filters_of_rows() -> None:
    node = Node()
    rows = [query(ip, f"n{number}.example.com") for ip in (ONE, TWO) for number in range(6)]
    (found,) = fire(text("workload", "dns_queries > 11"), [node.second(1, dns=rows), node.second(90)])
    assert found.evidence[0].value == 12
    rules = text("workload", more="    where: dst_port == 443\n")
    (found,) = fire(rules, second([*flows(ONE, 6), *flows(TWO, 5), flow(ONE, "203.0.113.9", 80)]))
    assert found.evidence[0].value == 11


def test_identity_is_that_of_the_time_and_batches_change_nothing() -> None:
    later = (
        stated(**WEB, name="web-1", ips=(ONE,), valid_to=BEGIN + 5),
        stated(kind="Pod", namespace="bank", name="till", ips=(ONE,), workload="Deployment/till", valid_from=BEGIN + 5),
    )  # fmt: skip
    node = Node()
    messages = [node.second(at, flows=flows(ONE, 6)) for at in (3, 4, 5, 6)] + [node.second(90)]
    found = fire(text("workload"), messages, later)
    assert [f.subject for f in found] == ["workload shop/Deployment/web@node1", "workload bank/Deployment/till@node1"]
    assert fire(text("workload"), messages, later, size=5) == found


def test_two_nodes_are_counted_apart() -> None:
    one, two = Node("node1"), Node("node2")
    messages = [one.second(1, flows=flows(ONE, 8)), two.second(1, flows=flows(TWO, 8)), one.second(90), two.second(90)]
    assert fire(text("workload"), messages) == []


@pytest.mark.parametrize(
    ("rules", "said"),
    [(text("team"), "by must be one of address, pod, workload, namespace, service, node, not 'team'"),
     (text("pod", "unique_ports_scanned > 10"), "unique_ports_scanned is not counted by pod; by fits bytes_received"),
     (text("pod", "traffic_pattern_anomaly"), "traffic_pattern_anomaly is not counted by pod")],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_what_does(rules: str, said: str) -> None:
    with pytest.raises(RuleError, match="rules:4: rule many") as refused:
        load_rules(rules)
    assert said in str(refused.value)


def test_every_key_has_a_space() -> None:
    by: By
    for by in BYS:
        (detector,) = rule_detectors(load_rules(text(by)))
        assert [feature.space for feature in detector.features()] == [f"source_by_{by}"]


def opened(dst: str, sources: range) -> list[Row]:
    return [flow(f"203.0.113.{number}", dst, 80) for number in sources]


def alerts(rules: str, messages: list[EventMessage], partitions: int) -> list[Alert]:
    engine = EngineSettings(rollup_partitions=partitions)
    detectors = {name: {"enabled": False} for name in ("syn_flood", "connection_flood", "port_scan")}
    settings = PipelineSettings(engine=engine, detectors=detectors)
    pipeline = Pipeline(Parts(settings, IdentityTable(INVENTORY), load_rule_file(rules)))
    return [a for output in pipeline.run(messages) for a in output.alerts if a.rule == "many" and a.revision == 1]


@pytest.mark.parametrize("partitions", [1, 4])
def test_victims_are_summed_by_identity_over_nodes_whatever_the_partitions(partitions: int) -> None:
    one, two = Node("node1"), Node("node2")
    messages = [one.second(1, flows=opened(ONE, range(6))), two.second(1, flows=opened(TWO, range(6, 12))),
                one.second(90), two.second(90)]  # fmt: skip
    (found,) = alerts(text("service", "connection_rate > 11"), messages, partitions)
    assert (found.subject, found.attackers, found.victims[0].service) == ("service shop/front", (), "shop/front")
    assert found.evidence[0].value == 12
    assert "towards service shop/front" in found.explanation
    assert alerts(text("service", "connection_rate > 12"), messages, partitions) == []
    assert alerts(text("address", "connection_rate > 11"), messages, partitions) == []


@pytest.mark.parametrize("partitions", [1, 4])
def test_a_source_of_several_pods_of_a_workload_is_one(partitions: int) -> None:
    node = Node()
    rows = [*opened(ONE, range(9)), *opened(TWO, range(4, 12)), *opened("10.0.0.77", range(3))]
    (found,) = alerts(
        text("workload", "unique_sources > 11"), [node.second(1, flows=rows), node.second(90)], partitions
    )
    assert (found.subject, found.evidence[0].value) == ("workload shop/Deployment/web", 12)
    (found,) = alerts(
        text("workload", "unique_sources == 3"), [node.second(1, flows=rows), node.second(90)], partitions
    )
    assert found.subject == "workload unknown"
