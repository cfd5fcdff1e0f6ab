"""Settings of planning, guarding and proving."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from response.node.settings import NodeAgentSettings, NodeStepSettings
from response.verify_settings import VerifySettings
from schemas.policy.words import DIALECTS, Dialect

# Actions that end or move what runs, or that write down what it says: nobody gets them without asking.
OptIn = Literal["detach_pod", "evict_pod", "cordon_node", "capture_traffic"]
DialectMode = Literal["enforce", "dry-run", "off"]


class CommandSettings(BaseModel):
    """Whose commands are believed, and with which key this process signs its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    public_keys_file: Path | None = Field(
        None, description="YAML of key id to person and public_key; without it every command is refused"
    )
    private_key_file: Path | None = Field(
        None, description="PEM of the Ed25519 key that signs commands given here; readable by its owner only"
    )
    key_id: str = Field("", max_length=64, description="name of that key in the file of public keys")
    fresh_s: float = Field(
        300.0,
        gt=0,
        le=3600,
        description="s between signing and reading a command; more is stale. Bounds the memory"
        " that finds replays, and how far clocks may differ",
    )
    two_person: bool = Field(
        False, description="true: two persons, each with an own key, must approve whatever waits for approval"
    )


class BudgetSettings(BaseModel):
    """Caps on containments; one that would exceed a cap is refused with the reason and stays visible."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_namespace: int = Field(10, ge=1, description="containments standing at once that touch pods of one namespace")
    per_minute: int = Field(20, ge=1, description="containments newly applied within 60 s, in the whole cluster")
    cluster: int = Field(100, ge=1, description="containments standing at once in the whole cluster")
    replica_share: float = Field(
        0.5, gt=0, le=1, description="share of one workload's pods that may be isolated at once; one pod always may"
    )
    stop_after: int = Field(
        100,
        ge=1,
        description="containments newly applied within an hour after which nothing more is applied until the hour has "
        "passed or an operator says resume: so many attacks at once are a mistake, or somebody playing with us",
    )


class UpkeepSettings(BaseModel):
    """How long containments live, and what becomes of them meanwhile."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    escalation_s: tuple[int, ...] = Field(
        (600, 3600, 86_400, 604_800),
        description="s; who comes back after his containment ended is contained for the next longer step above the "
        "policy file's ttl_s",
    )
    relapse_window_s: int = Field(
        86_400, ge=60, description="s after the end of a containment during which the same attacker counts as come back"
    )
    release_after_quiet_s: int = Field(
        1800,
        ge=0,
        description="s without any attempt, as packets show it, after which a containment ends early; 0: never",
    )
    drift: Literal["repair", "respect"] = Field(
        "repair", description="what follows when somebody changes or deletes an object of ours: write it again, or take"
        " the rest back"
    )  # fmt: skip
    repairs: int = Field(
        3, ge=0, description="repairs of one containment, after which the other side is respected: two controllers that"
        " undo each other help nobody",
    )  # fmt: skip
    proposal_s: int = Field(86_400, ge=60, description="s after which a proposal that nobody approved lapses")
    reconcile_s: float = Field(60.0, gt=0, le=3600, description="s between looks at the whole cluster without any news")
    kill_switch: str = Field(
        "sluicegate/sluicegate-stop",
        pattern=r"^([a-z0-9-]{1,63}/[a-z0-9.-]{1,253})?$",
        description="namespace/name of a ConfigMap; while it exists nothing is applied and everything of ours is taken"
        " back; empty: none is looked for",
    )
    lease: str = Field(
        "",
        pattern=r"^([a-z0-9-]{1,63}/[a-z0-9.-]{1,253})?$",
        description="namespace/name of the Lease by which one of several responders leads; the others stand by; empty:"
        " this is the only one",
    )
    events: bool = Field(True, description="write a Kubernetes Event on pods when their containment changes")


class QuarantineSettings(BaseModel):
    """What quarantine_pod leaves to a pod."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dns: Literal["keep", "cut"] = Field(
        "keep", description="keep: a quarantined pod may still ask the cluster's resolver what it could ask before,"
        " where the dialect can say so and the attack does not go through it; cut: nothing at all, and an operator"
        " must approve each",
    )  # fmt: skip
    services: Literal["stay", "leave"] = Field(
        "stay", description="leave: take off the pod those labels by which Services find it and its controller does"
        " not, so that they send it nothing more; undo gives them back. stay: who is sent to it waits in vain",
    )  # fmt: skip


def _modes(given: Mapping[str, str]) -> dict[Dialect, DialectMode]:
    """The mode of every dialect, where some are given. Raises ValueError."""
    unknown = sorted(given.keys() - set(DIALECTS))
    wrong = sorted(name for name, mode in given.items() if mode not in get_args(DialectMode))
    if unknown or wrong:
        message = f"{(unknown or wrong)[0]}: known are {', '.join(DIALECTS)}, each enforce, dry-run or off"
        raise ValueError(message)
    default: DialectMode
    made: dict[Dialect, DialectMode] = {}
    for dialect in DIALECTS:
        default = "enforce" if dialect == "networkpolicy" else "dry-run"
        said = given.get(dialect, default)
        made[dialect] = "enforce" if said == "enforce" else "off" if said == "off" else "dry-run"
    return made


class ResponseSettings(BaseModel):
    """What responses must never touch, and what must keep working."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protected_namespaces: tuple[str, ...] = Field(
        ("kube-system", "kube-public", "kube-node-lease", "sluicegate"),
        description="Namespaces whose pods are never isolated: cutting the control plane or the watcher itself "
        "would do more harm than the attack.",
    )
    own_labels: dict[str, str] = Field(
        {"app.kubernetes.io/part-of": "sluicegate"},
        description="Pods with all of these labels are this system's own and never isolated, wherever they run.",
    )
    dns_namespace: str = Field(
        "kube-system", description="Namespace of the cluster's DNS servers: where every distribution puts them."
    )
    dns_labels: dict[str, str] = Field(
        {"k8s-app": "kube-dns"},
        description="Labels of the DNS server pods: CoreDNS kept the label of kube-dns.",
    )
    dns_addresses: tuple[str, ...] = Field(
        (), description="Further resolvers that pods use (node-local caches, outside resolvers), as addresses."
    )
    dns_ports: tuple[int, ...] = Field(
        (53,), description="Ports on which the DNS server pods listen, UDP and TCP; 5353 on OpenShift."
    )
    volatile_labels: tuple[str, ...] = Field(
        (
            "pod-template-hash",
            "controller-revision-hash",
            "pod-template-generation",
            "statefulset.kubernetes.io/pod-name",
            "apps.kubernetes.io/pod-index",
            "batch.kubernetes.io/controller-uid",
            "batch.kubernetes.io/job-name",
            "batch.kubernetes.io/job-completion-index",
            "controller-uid",
            "job-name",
        ),
        description="Labels that differ between replicas or revisions of one workload: left out of the selectors "
        "of workload policies, so that a rescheduled replica stays contained.",
    )
    commands: CommandSettings = Field(CommandSettings(), description="keys of operators' commands")
    budgets: BudgetSettings = Field(BudgetSettings(), description="how much may be contained at once")
    upkeep: UpkeepSettings = Field(UpkeepSettings(), description="lifetimes, drift, kill switch")
    exempt_labels: dict[str, str] = Field(
        {"sluicegate.io/exempt": "true"},
        description="Pods with one of these labels, and pods of namespaces with one, are never isolated. Whoever may"
        " label a pod may exempt it: every such refusal is in the audit.",
    )
    protected_addresses: tuple[str, ...] = Field(
        (), description="Addresses and blocks that are never blocked: an API server outside the cluster, monitoring, "
        "partners behind one address."
    )  # fmt: skip
    ipv6_prefix: int = Field(
        128, ge=48, le=128, description="Prefix length by which IPv6 addresses outside the cluster are blocked; 64 is"
        " one customer, who can use any address of it",
    )  # fmt: skip
    quarantine: QuarantineSettings = Field(QuarantineSettings(), description="what quarantine_pod leaves to a pod")
    opt_in: tuple[OptIn, ...] = Field(
        (), description="Actions that are refused unless they are named here, because they end or move what runs,"
        " or write down what it says: detach_pod, evict_pod, cordon_node, capture_traffic",
    )  # fmt: skip
    node_steps: NodeStepSettings = Field(NodeStepSettings(), description="what nodes are commanded, and how")
    node_agent: NodeAgentSettings = Field(NodeAgentSettings(), description="what the agent of a node obeys")
    edges_hours: int = Field(
        24, ge=1, le=168, description="hours for which the peers of workloads are remembered: a proof lists those that"
        " it cuts; edges.v1 keeps a week",
    )  # fmt: skip
    verify: VerifySettings = Field(VerifySettings(), description="when packets are taken to say something")
    dialects: dict[Dialect, DialectMode] = Field(
        _modes({}),
        validate_default=True,
        description="What to make of each dialect of policy. enforce: the cluster's enforcer is known to enforce it,"
        " plans are written in it; dry-run: a plan in it is only proposed, and proofs must hold with and without what"
        " is written in it; off: its objects mean nothing here. What is not named keeps its default;"
        " `sluicegate doctor --cluster` says what to set.",
    )
    calico_tier: str = Field(
        "sluicegate",
        pattern=r"^[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?$",
        description="Calico tier that policies of ours are written to; it must exist and be asked before all others.",
    )
    admin_priorities: tuple[int, int] = Field(
        (0, 99),
        description="First and last priority of ClusterNetworkPolicies and AdminNetworkPolicies that are kept free for "
        "ours; each takes one that no other policy has.",
    )

    @field_validator("dialects", mode="before")
    @classmethod
    def _complete(cls, value: object) -> object:
        return _modes(value) if isinstance(value, Mapping) else value

    @field_validator("admin_priorities")
    @classmethod
    def _in_range(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 0 <= value[0] <= value[1] <= 1000:
            message = "first and last priority, each 0 to 1000, in this order"
            raise ValueError(message)
        return value

    def enforced(self) -> tuple[Dialect, ...]:
        """The dialects that are set to be enforced, in the order in which they are tried."""
        return tuple(item for item in DIALECTS if self.dialects[item] == "enforce")
