"""``sluicegate inventory``: who has which address, from the cluster to the broker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sluicegate.commands.worker import LogLevel
from sluicegate.invocation import invocation


def inventory(
    context: typer.Context,
    docker: Annotated[Path | None, typer.Option(metavar="SOCKET", help="Docker engine of this host.")] = None,
    kubeconfig: Annotated[Path | None, typer.Option(metavar="FILE", help="Cluster to watch.")] = None,
    kube_context: Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")] = None,
    cluster: Annotated[str, typer.Option(help="Name of the cluster, as exporters give it.")] = "local",
    once: Annotated[bool, typer.Option("--once", help="Print what is there as JSON lines and end.")] = False,
    log_level: Annotated[LogLevel, typer.Option(help="Least severe log lines written.")] = "info",
) -> None:
    """Watch who has which address, and tell it on inventory.v1 until SIGTERM.

    Without --kubeconfig the pod's service account or the file in KUBECONFIG is used; with --docker the containers
    and networks of one host instead. With --once nothing is sent; the lines are what replay and export take with
    --inventory.
    """
    from sluicegate.inventory_run import InventoryPlan, run_inventory

    plan = InventoryPlan(docker, kubeconfig, kube_context, cluster, once, log_level)
    run_inventory(invocation(context).settings, plan)
