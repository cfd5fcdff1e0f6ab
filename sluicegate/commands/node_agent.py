"""``sluicegate node-agent``: enforce on this node what the responder commands."""

from __future__ import annotations

from typing import Annotated

import typer

from sluicegate.commands.worker import LogLevel
from sluicegate.invocation import invocation


def node_agent(
    context: typer.Context,
    node: Annotated[str, typer.Option(metavar="NAME", help="Name of this node in the cluster; its host name.")] = "",
    cluster: Annotated[str, typer.Option(help="Name of the cluster, as in alerts.")] = "local",
    uninstall: Annotated[
        bool, typer.Option("--uninstall", help="Remove our tables from this node's kernel, and end.")
    ] = False,
    log_level: Annotated[LogLevel, typer.Option(help="Least severe log lines written.")] = "info",
) -> None:
    """Drop pairs and limit ports in this node's nftables, as signed commands say, until SIGTERM.

    Needs the privilege CAP_NET_ADMIN (for captures CAP_NET_RAW, too), the programs nft, ip and tc (for captures
    bridge), and response.node_agent.public_keys_file. What is set expires in the kernel by itself. SIGTERM leaves it,
    unless response.node_agent.stop says otherwise.
    """
    from exporter.privileges import Privilege, keep_only

    # Before libraries start threads, which keep what the first one had.
    keep_only([Privilege.CAP_NET_ADMIN, Privilege.CAP_NET_RAW])
    settings = invocation(context).enforcing_settings
    if uninstall or settings.response.node_agent.capture_dir is None:
        keep_only([Privilege.CAP_NET_ADMIN])
    from sluicegate.node_agent_run import NodeAgentPlan, run_node_agent, run_uninstall

    if uninstall:
        run_uninstall(settings)
        return
    run_node_agent(settings, NodeAgentPlan(node, cluster, log_level))
