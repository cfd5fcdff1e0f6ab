"""What the cluster's NetworkPolicies say of a connection that was seen, without building a view of all the cluster."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from schemas.policy.cluster import ClusterView
from schemas.policy.evaluator import READINGS, Flow, Verdict, evaluate, ports_of
from schemas.policy.inventory_view import pod_of
from schemas.policy.networkpolicy import PROTOCOLS, NetworkPolicy


@dataclass(frozen=True)
class Connection:
    """A connection after address translation, with the pods at its ends, where they are pods."""

    flow: Flow
    source: InventoryObject | None
    target: InventoryObject | None

    def ends(self) -> tuple[tuple[str, InventoryObject | None], ...]:
        """Return both addresses with what has them."""
        return (self.flow.source, self.source), (self.flow.destination, self.target)

    def pods(self) -> tuple[InventoryObject, ...]:
        """Return the ends that are pods with a network of their own."""
        ends = (self.source, self.target)
        return tuple(end for end in ends if end is not None and end.kind == "Pod" and not end.host_network)


class PolicyCheck:
    """The policies and labels that concern one connection at one time."""

    def __init__(self, identities: IdentityTable, connection: Connection, at: int) -> None:
        self.connection = connection
        table = identities.cluster.policies
        spaces = sorted({pod.namespace or "default" for pod in connection.pods()})
        self.changed = max([table.changed(s, at) for s in spaces] + [pod.valid_from for pod in connection.pods()] + [0])
        self.view = ClusterView(
            pods=tuple(pod_of(pod, ()) for pod in connection.pods()),
            namespaces={space: table.labels(space, at) for space in spaces},
            policies=tuple(policy for space in spaces for policy in table.policies(space, at)),
        )

    def verdict(self, flow: Flow | None = None) -> Verdict:
        """Return what the policies say; allowed where it depends on how an enforcer reads ipBlocks."""
        for reading in READINGS:
            verdict = evaluate(self.view, flow or self.connection.flow, reading)
            if verdict.allowed:
                break
        return verdict

    def in_ipv4(self) -> Flow | None:
        """Return the same connection between the IPv4 addresses of its pods; none where it has no such twin."""
        flow = self.connection.flow
        if ":" not in flow.destination or len(self.connection.pods()) != 2:
            return None
        four = [next((ip for ip in pod.ips if ":" not in ip), "") for pod in self.connection.pods()]
        return Flow(four[0], four[1], flow.protocol, flow.port) if all(four) else None

    def holes(self) -> tuple[str, ...]:
        """Return the rules by which the source may send, if all of them name ports and no destination.

        A rule without either is how "everything is allowed" is written on purpose.
        """
        flow, source = self.connection.flow, self.view.pods[0]
        protocol = next((known for known in PROTOCOLS if known == flow.protocol), None)
        if protocol is None:
            return ()
        found = []
        for policy in self.view.policies_on(source, "Egress"):
            for number, rule in enumerate(policy.rules("Egress")):
                if flow.port not in ports_of(rule, protocol, None):
                    continue
                if not rule.peers and rule.ports:
                    found.append(f"{policy.key} egress[{number}]")
                elif not rule.peers or self._is_for(policy, number):
                    return ()
        return tuple(found)

    def _is_for(self, policy: NetworkPolicy, number: int) -> bool:
        """Tell whether one rule alone allows the connection."""
        spec = policy.spec.model_copy(update={"egress": (policy.spec.egress[number],), "policy_types": ("Egress",)})
        alone = ClusterView(pods=self.view.pods, namespaces=self.view.namespaces,
                            policies=(policy.model_copy(update={"spec": spec}),))  # fmt: skip
        return evaluate(alone, self.connection.flow).egress.allowed
