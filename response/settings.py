"""Settings of planning, guarding and proving."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from response.node_settings import NodeAgentSettings, NodeStepSettings


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
    node_steps: NodeStepSettings = Field(NodeStepSettings(), description="what nodes are commanded, and how")
    node_agent: NodeAgentSettings = Field(NodeAgentSettings(), description="what the agent of a node obeys")
