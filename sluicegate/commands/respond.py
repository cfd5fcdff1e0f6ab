"""``sluicegate respond``: the agent that carries out decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sluicegate.commands.worker import LogLevel
from sluicegate.invocation import invocation


def respond(
    context: typer.Context,
    kubeconfig: Annotated[Path | None, typer.Option(metavar="FILE", help="Cluster to read and change.")] = None,
    kube_context: Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")] = None,
    no_cluster: Annotated[bool, typer.Option("--no-cluster", help="Use the inventory whatever is configured.")] = False,
    policies: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Without a cluster: more NetworkPolicies (YAML).")
    ] = None,
    cluster: Annotated[str, typer.Option(help="Name of the cluster, as in alerts.")] = "local",
    log_level: Annotated[LogLevel, typer.Option(help="Least severe log lines written.")] = "info",
) -> None:
    """Plan, prove and, where the decision's mode says so, apply responses until SIGTERM.

    Without --kubeconfig the pod's service account or the file in KUBECONFIG is used. Without these, plans
    are proven against the inventory on the broker, and nothing can be applied. Each step, refusals
    included, is a record on actions.v1.
    """
    from sluicegate.respond_run import RespondPlan, run_respond

    plan = RespondPlan(kubeconfig, kube_context, no_cluster, policies, cluster, log_level)
    raise typer.Exit(run_respond(invocation(context).settings, plan))
