"""What an operator may set about the stream: the broker, the topics, the worker's limits, the health port.

Every model is frozen; every field carries its unit, its default and the reason for that default.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from schemas.topics import DEFAULT_PREFIX

Seconds = Annotated[float, Field(gt=0)]
_PREFIX_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$"
_BOOTSTRAP_PATTERN = r"^[^\s,:]+:\d{1,5}(,[^\s,:]+:\d{1,5})*$"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(_Frozen):
    """How to reach the broker, and as whom."""

    bootstrap: str = Field(
        "127.0.0.1:9092",
        pattern=_BOOTSTRAP_PATTERN,
        description="host:port, comma-separated; default: a broker on this machine",
    )
    prefix: str = Field(
        DEFAULT_PREFIX,
        pattern=_PREFIX_PATTERN,
        description="leads every topic, group and client name, so that installations can share a broker",
    )
    security: Literal["plaintext", "tls", "sasl_plaintext", "sasl_tls"] = Field(
        "plaintext", description="transport and login; plaintext suits loopback only"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="login method of sasl_*; the default never sends the password itself"
    )
    sasl_username: str = Field("", max_length=256, description="user of sasl_*")
    sasl_password: SecretStr = Field(
        SecretStr(""), description="password of sasl_*; prefer sasl_password_file or the environment"
    )
    sasl_password_file: Path | None = Field(None, description="file whose first line is the password; wins")
    ca_file: Path | None = Field(None, description="PEM authorities that sign the broker; default: the system's")
    certificate_file: Path | None = Field(None, description="PEM client certificate, where the broker demands one")
    key_file: Path | None = Field(None, description="PEM key of the client certificate")
    check_hostname: bool = Field(True, description="refuse a certificate for another host; off only in a lab")
    request_timeout_s: Seconds = Field(
        20.0, description="s; one request to the broker; longer than session_timeout_s, as Kafka demands"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.security.startswith("sasl") and not self.sasl_username:
            message = f"security {self.security} needs sasl_username"
            raise ValueError(message)
        if (self.certificate_file is None) != (self.key_file is None):
            message = "certificate_file and key_file must be given together"
            raise ValueError(message)
        return self


class TopicSettings(_Frozen):
    """How topics are created; a worker refuses a broker whose topics differ."""

    event_partitions: int = Field(
        4, ge=1, le=256, description="partitions of events.v1; the most workers that can share detection"
    )
    rollup_partitions: int = Field(
        2, ge=1, le=8, description="partitions of rollups.v1; each costs a message per event partition and tick"
    )
    state_partitions: int = Field(
        4, ge=1, le=64, description="partitions of state.v1; a start reads only those of its own snapshots"
    )
    replication: int = Field(
        1, ge=1, le=9, description="copies of each partition; 1 suits one broker, use 3 in production"
    )


class WorkerSettings(_Frozen):
    """Limits of a worker process."""

    instance: str = Field(
        "",
        max_length=200,
        pattern=r"^[A-Za-z0-9._-]*$",
        description="static group member name, unique per process (a pod's name); a quick restart then keeps its "
        "partitions without a rebalance; empty: none",
    )
    session_timeout_s: Seconds = Field(
        12.0, description="s; a silent worker's partitions move after this; 10 to 15 survives a pause without delay"
    )
    buffer_messages: int = Field(
        128, ge=1, le=1024, description="messages decoded ahead per agent; counts messages, each up to 4 MiB"
    )
    feed_messages: int = Field(
        128,
        ge=1,
        le=256,
        description="messages fed to the engine at once when they have come already; each call costs as much as "
        "several thousand rows, and what is said does not depend on it; a failure of the engine sets all of them aside",
    )
    feed_linger_s: float = Field(
        0.05,
        ge=0,
        le=1,
        description="s at most to wait for more messages to feed together, and not longer than the last feeding took",
    )
    poll_records: int = Field(100, ge=1, le=10_000, description="records per fetch; 50 to 200 keeps polls even")
    fetch_bytes: int = Field(
        5 << 20, ge=1 << 20, description="bytes fetched per partition; above the largest message (4 MiB)"
    )
    fetch_wait_ms: int = Field(
        50,
        ge=1,
        le=5000,
        description="ms a broker may hold a fetch that finds nothing; its busy partitions wait meanwhile; idle, each "
        "agent asks 20 times a second",
    )
    checkpoint_interval_s: Seconds = Field(
        10.0, description="s between snapshots of a partition; bounds what a killed worker does again"
    )
    checkpoint_share: float = Field(
        0.1, gt=0, le=1, description="largest share of time spent on snapshots; a large state is saved less often"
    )
    checkpoint_bytes: int = Field(
        512 << 20, ge=1 << 20, description="bytes; a larger state stops the worker, its tables are misconfigured"
    )
    checkpoint_chain: int = Field(
        64,
        ge=1,
        le=1000,
        description="checkpoints that a snapshot may be spread over, each holding what changed; then everything is "
        "written anew, as it is when more than twice the state is stored; bounds what a restore reads",
    )
    commit_interval_s: Seconds = Field(1.0, description="s between commits of agents that keep no state")
    pending_sends: int = Field(10_000, ge=1, description="records sent and not yet durable; at the limit reading waits")
    delivery_timeout_s: Seconds = Field(
        300.0,
        description="s that a record is sent again while brokers are away or a partition has no leader; then the "
        "worker ends and its successor does the work again; longer than any outage that is to cost nothing",
    )
    quiet_s: Seconds = Field(
        10.0,
        description="s without a record on an event partition that is read to its end, after which stage 2 is told "
        "not to wait for it; the wall clock's counterpart of engine.silence_s",
    )
    linger_ms: int = Field(
        2, ge=0, le=1000, description="ms a record may wait for company; 2 gathers a tick and stays far below 200"
    )
    stop_deadline_s: Seconds = Field(
        25.0, description="s from SIGTERM to a forced end; below Kubernetes' grace period of 30"
    )


class DeadLetterSettings(_Frozen):
    """When bad input stops being set aside and stops the line instead."""

    limit: int = Field(
        1000, ge=0, description="dead letters allowed per window and agent; more means we are broken, not they"
    )
    window_s: Seconds = Field(60.0, description="s; the window of the limit")


class HealthSettings(_Frozen):
    """The HTTP port with /healthz, /readyz and /metrics."""

    host: str = Field("127.0.0.1", max_length=253, description="address to listen on; 0.0.0.0 in a pod")
    port: int = Field(9464, ge=0, le=65_535, description="TCP port; 0 takes a free one and logs it")
    stall_s: Seconds = Field(
        60.0, description="s with lag and without progress until /healthz fails; above any rebalance"
    )
    check_interval_s: Seconds = Field(2.0, description="s between looks at the lag")


class StreamSettings(_Frozen):
    """Everything of `stream/`."""

    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    worker: WorkerSettings = WorkerSettings()
    dead_letters: DeadLetterSettings = DeadLetterSettings()
    health: HealthSettings = HealthSettings()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.worker.session_timeout_s > self.kafka.request_timeout_s:
            message = "worker.session_timeout_s must not exceed kafka.request_timeout_s"
            raise ValueError(message)
        return self
