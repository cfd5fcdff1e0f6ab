"""Every metric of the stream, defined once: name, kind, labels and help. `docs/metrics.md` is made from here."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

_NODES = "nodes_"
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(frozen=True)
class MetricSpec:
    """One metric as documented."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


SPECS: tuple[MetricSpec, ...] = (
    MetricSpec("messages", "counter", "Messages fed to an agent's engine.", ("agent",)),
    MetricSpec("rows", "counter", "Rows in those messages, by kind of row.", ("agent", "kind")),
    MetricSpec(
        "messages_repeated",
        "counter",
        "Messages delivered again after a rebalance or restart and skipped: their effect is in the engine.",
        ("agent",),
    ),
    MetricSpec(
        "offsets_missing",
        "counter",
        "Input offsets that never came: retention overtook the worker, or a transaction's marker.",
        ("agent",),
    ),
    MetricSpec("dead_letters", "counter", "Messages set aside on deadletter.v1.", ("agent", "reason")),
    MetricSpec("records_sent", "counter", "Records handed to the producer.", ("topic",)),
    MetricSpec(
        "send_retries",
        "counter",
        "Batches of records that a broker did not take and that were sent again, and waits for room to send.",
    ),
    MetricSpec(
        "send_failures",
        "counter",
        "Records that no broker took until worker.delivery_timeout_s, or that were refused; the worker stops "
        "unacknowledged.",
    ),
    MetricSpec("outbox_records", "gauge", "Records sent and not yet durable."),
    MetricSpec("outbox_oldest_seconds", "gauge", "For how long the oldest of them has waited; 0 without any."),
    MetricSpec("process_seconds", "histogram", "Time to decode and feed one message, without sending.", ("agent",)),
    MetricSpec("durable_seconds", "histogram", "Time a checkpoint waited for its records to be durable.", ("agent",)),
    MetricSpec(
        "snapshot_seconds",
        "histogram",
        "Time to find and hand over what changed in one partition's state, its engine paused.",
        ("agent",),
    ),
    MetricSpec(
        "checkpoint_seconds",
        "histogram",
        "Time to checkpoint: from the beginning of one partition's snapshot until it was durable.",
        ("agent",),
    ),
    MetricSpec("state_bytes", "gauge", "Size of the state at the last checkpoint.", ("agent", "partition")),
    MetricSpec(
        "state_stored_bytes", "gauge", "Bytes on state.v1 that a restore would read.", ("agent", "partition")
    ),
    MetricSpec(
        "checkpoint_chain", "gauge", "Checkpoints that the last snapshot is spread over.", ("agent", "partition")
    ),
    MetricSpec(
        "checkpoint_bytes",
        "counter",
        "Bytes written to state.v1: what changed, its index and its manifest.",
        ("agent",),
    ),
    MetricSpec("checkpoints", "counter", "Snapshots made durable and committed.", ("agent", "cause")),
    MetricSpec(
        "restore_seconds",
        "histogram",
        "Time to claim, read and restore the partitions of one assignment.",
        ("agent",),
    ),
    MetricSpec(
        "sections_cold",
        "counter",
        "Sections of a restored state that started empty: missing, of another version, or unknown to this version.",
        ("agent", "section"),
    ),
    MetricSpec(
        "restores",
        "counter",
        "Partitions taken over, by how: snapshot, cold (nothing to restore) or lost (a snapshot should exist).",
        ("agent", "outcome"),
    ),
    MetricSpec("rebalances", "counter", "Assignments received.", ("agent",)),
    MetricSpec("partitions", "gauge", "Input partitions this process holds.", ("agent",)),
    MetricSpec("lag", "gauge", "Input messages on the broker and not yet fed.", ("agent", "partition")),
    MetricSpec(
        "stalled",
        "gauge",
        "1 while there is lag and nothing is fed, or a checkpoint is overdue, for longer than health.stall_s; of the "
        "agent `outbox`: while brokers answer and do not take what is sent.",
        ("agent",),
    ),
    MetricSpec(
        "checkpoint_age_seconds",
        "gauge",
        "Time since the oldest input not yet covered by a checkpoint was fed.",
        ("agent",),
    ),
    MetricSpec("watermark", "gauge", "Last tick announced on alerts.v1, s since epoch.", ("agent", "partition")),
    MetricSpec(
        "log_events",
        "gauge",
        "What the input log asked for since a partition's state began. detect: repeats, lost, late and restamped "
        "messages, forced closings, messages refused for too many nodes, silences of nodes; correlate: repeats, late "
        "and foreign rollups, silences of event partitions.",
        ("agent", "partition", "event"),
    ),
    MetricSpec(
        "state_table",
        "gauge",
        "The engine's tables by key space: keys and pairs held now; since the state began, keys and elements refused "
        "(shed), new keys turned away from a crowded table until they do more (deferred), keys given back (evicted).",
        ("agent", "partition", "space", "what"),
    ),
    MetricSpec("nodes", "gauge", "Nodes of an event partition: going, silent or ended.", ("partition", "state")),
    MetricSpec(
        "identities",
        "gauge",
        "Who has which address, as told on inventory.v1: objects, statements and addresses held; since the start, "
        "statements forgotten to make room and statements refused; the watermark, s since epoch (-1: none).",
        ("what",),
    ),
    MetricSpec(
        "watches",
        "gauge",
        "Containments whose traffic is looked for (active), and those that could not be because too many are active, "
        "since the start (refused).",
        ("what",),
    ),
    MetricSpec("alerts", "counter", "Alert revisions sent.", ("detector", "severity")),
    MetricSpec(
        "excepted", "counter", "Findings that an exception of the rules kept from becoming alerts.", ("exception",)
    ),
    MetricSpec(
        "append_to_fed_seconds",
        "histogram",
        "From the broker's append time of an input message until its engine was fed; clocks of two machines.",
        ("agent",),
    ),
    MetricSpec(
        "tick_delay_seconds",
        "histogram",
        "From the broker's append time of the oldest message that was fed together with the one that closed a tick "
        "until what that tick led to was durable, by topic (alerts.v1: alerts and watermarks); clocks of two machines.",
        ("topic",),
    ),
    MetricSpec(
        "response_steps",
        "counter",
        "Steps of responses on actions.v1 by outcome; `missed` are deadlines that passed without containment.",
        ("outcome",),
    ),
    MetricSpec("containments", "gauge", "Responses that the ledger knows, by phase.", ("phase",)),
    MetricSpec(
        "answered_seconds",
        "histogram",
        "From the step that applied a containment to the last packet that was still answered, once it is effective.",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Telemetry:
    """The metrics of one process, one attribute per entry of `SPECS`."""

    registry: CollectorRegistry
    messages: Counter
    rows: Counter
    messages_repeated: Counter
    offsets_missing: Counter
    dead_letters: Counter
    records_sent: Counter
    send_retries: Counter
    send_failures: Counter
    outbox_records: Gauge
    outbox_oldest_seconds: Gauge
    process_seconds: Histogram
    durable_seconds: Histogram
    snapshot_seconds: Histogram
    checkpoint_seconds: Histogram
    state_bytes: Gauge
    state_stored_bytes: Gauge
    checkpoint_chain: Gauge
    checkpoint_bytes: Counter
    checkpoints: Counter
    restore_seconds: Histogram
    sections_cold: Counter
    restores: Counter
    rebalances: Counter
    partitions: Gauge
    lag: Gauge
    stalled: Gauge
    checkpoint_age_seconds: Gauge
    watermark: Gauge
    log_events: Gauge
    state_table: Gauge
    nodes: Gauge
    identities: Gauge
    watches: Gauge
    alerts: Counter
    excepted: Counter
    append_to_fed_seconds: Histogram
    tick_delay_seconds: Histogram
    response_steps: Counter
    containments: Gauge
    answered_seconds: Histogram

    def note_answered(self, seconds: Iterable[float]) -> None:
        """Take in `answered_seconds`."""
        for value in seconds:
            self.answered_seconds.observe(value)

    def note_steps(self, outcomes: Iterable[str]) -> None:
        """Count `response_steps`."""
        for outcome in outcomes:
            self.response_steps.labels(outcome).inc()

    def note_containments(self, phases: Mapping[str, int]) -> None:
        """Set `containments`; phases that nothing is in any more are left out."""
        self.containments.clear()
        for phase, count in phases.items():
            self.containments.labels(phase).set(count)

    def note_log(self, agent: str, partition: int, counts: Mapping[str, int]) -> None:
        """Set `log_events` and, from counts called `nodes_<state>`, `nodes`."""
        for name, count in counts.items():
            if name.startswith(_NODES):
                self.nodes.labels(str(partition), name.removeprefix(_NODES)).set(count)
            else:
                self.log_events.labels(agent, str(partition), name).set(count)

    @staticmethod
    def follow(gauge: Gauge, counts: Callable[[], Mapping[str, int]]) -> None:
        """Let a gauge that is labelled `what` ask for its values whenever it is read."""

        def value(what: str) -> float:
            return counts()[what]

        for what in counts():
            gauge.labels(what).set_function(partial(value, what))

    def note_tables(self, agent: str, partition: int, tables: Mapping[str, Mapping[str, int]]) -> None:
        """Set `state_table`."""
        for space, counts in tables.items():
            for what, count in counts.items():
                self.state_table.labels(agent, str(partition), space, what).set(count)


def make_telemetry() -> Telemetry:
    """Fresh metrics on a registry of their own, so that tests and processes share nothing."""
    registry = CollectorRegistry()
    made = {spec.name: _make(spec, registry) for spec in SPECS}
    wanted = {f.name for f in fields(Telemetry)} - {"registry"}
    if wanted != set(made):
        message = f"metrics defined and used differ: {sorted(wanted ^ set(made))}"
        raise AssertionError(message)
    return Telemetry(registry=registry, **made)  # type: ignore[arg-type]  # each kind matches by construction


def metrics_markdown() -> str:
    """The text of `docs/metrics.md`."""
    lines = [
        "# Metrics",
        "",
        "Served on `/metrics` by `sluicegate worker` and `sluicegate respond`. Made from `stream/telemetry.py`;",
        "do not edit here.",
        "",
        "| metric | kind | labels | meaning |",
        "|---|---|---|---|",
    ]
    return "\n".join([*lines, *metric_rows(SPECS)]) + "\n"


def metric_rows(specs: Iterable[MetricSpec]) -> Iterator[str]:
    """A line of a table for each metric."""
    for spec in specs:
        suffix = "_total" if spec.kind == "counter" else ""
        labels = ", ".join(f"`{label}`" for label in spec.labels) or "none"
        yield f"| `sluicegate_{spec.name}{suffix}` | {spec.kind} | {labels} | {spec.help} |"


def _make(spec: MetricSpec, registry: CollectorRegistry) -> MetricWrapperBase:
    name = f"sluicegate_{spec.name}"
    if spec.kind == "histogram":
        return Histogram(name, spec.help, spec.labels, buckets=_SECONDS, registry=registry)
    kind = Counter if spec.kind == "counter" else Gauge
    return kind(name, spec.help, spec.labels, registry=registry)
