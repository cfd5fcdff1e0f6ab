"""A response decision: what should be done about an alert, by when, and how freely."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.finding import Endpoint, Severity
from schemas.word import Word

Mode = Literal["observe", "dry-run", "approve", "enforce"]
ActionName = Literal[
    "block_egress_destination", "block_ingress_source", "quarantine_pod", "rate_limit", "cut_on_node",
    "isolate_workload", "isolate_namespace", "allow_only_baseline", "close_hole", "demand_mtls",
    "detach_pod", "annotate", "notify", "evict_pod", "cordon_node", "capture_traffic",
]  # fmt: skip


class ResponseDecision(Word):
    """What decide says on responses.v1; the responder plans, proves and acts on it."""

    type: Literal["response"] = "response"
    schema_version: Literal[1] = 1
    id: str = Field(description="hash of the alert id and the ladder: repeats are the same response")
    alert_id: str = Field(description="the alert decided on")
    alert_revision: int = Field(ge=1, description="its revision")
    cluster: str = Field(description="of the alert")
    detector: str = Field(description="of the alert")
    kind: str = Field(description="of the alert")
    severity: Severity = Field(description="of the alert")
    confidence: float = Field(description="of the alert")
    category: Literal["ddos", "intrusion", "data_leak", "misconfiguration", "other"] = Field(
        description="line of the decision matrix"
    )
    mode: Mode = Field(description="how freely it may be carried out")
    actions: tuple[ActionName, ...] = Field(description="ladder: tried in order until one is proven")
    attackers: tuple[Endpoint, ...] = Field(description="of the alert")
    victims: tuple[Endpoint, ...] = Field(description="of the alert")
    spoofable: bool = Field(description="of the alert: no address is blocked on such evidence")
    decided_tick: int = Field(description="tick of the alert that was decided on, s since epoch")
    deadline_s: int = Field(ge=0, description="s after decided_tick by which it should be contained")
    ttl_s: int = Field(ge=60, description="s after which what was applied expires")
    reason: str = Field(description="which line of the policy file decided, in words")
    approvals: int = Field(1, ge=1, le=5, description="mode approve: persons who must approve, each by an own key")
    approvers: tuple[str, ...] = Field((), description="mode approve: persons who may; empty: every known one")
