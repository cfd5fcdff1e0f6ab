"""``sluicegate doctor``: what works here, what is missing, how to get it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sluicegate.invocation import invocation

_PROBE_WAIT_S = 30


def doctor(
    context: typer.Context,
    kubeconfig: Annotated[Path | None, typer.Option(metavar="FILE", help="Cluster to look at.")] = None,
    kube_context: Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")] = None,
    exporter: Annotated[
        bool, typer.Option("--exporter", help="Look only at what exporting this node's live packets needs.")
    ] = False,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Look only at which policies the cluster takes, and who enforces them.")
    ] = False,
    probe: Annotated[
        str | None,
        typer.Option(
            metavar="NAMESPACE",
            help="With --cluster: make two pods in this namespace, try whether a policy stops them, delete them.",
        ),
    ] = None,
    probe_image: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="What its pods run, as your nodes pull it; else sluicegate, this release."),
    ] = None,
    probe_wait: Annotated[
        int | None,
        typer.Option(
            metavar="SECONDS", min=5, max=600, help=f"How long an enforcer may take for a policy; else {_PROBE_WAIT_S}."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per check.")] = False,
) -> None:
    """Look at Python, libraries, Java, Maven, broker, cluster, privileges and tools.

    Exit code 3 where the broker that the settings name, or a cluster that was named, cannot be used; what
    only some uses need never fails. With --exporter: kernel, privileges, interfaces, spool and broker of a live
    exporter, and code 3 where it could not work. With --cluster: which dialects of policy are served, which of
    them somebody enforces, and what to set; code 3 where a dialect that is set to be enforced is not. Only with
    --probe anything is written, and only in the namespace that it names.
    """
    import dataclasses
    from importlib.metadata import version

    import orjson

    from sluicegate import problems
    from sluicegate.checks import all_checks
    from sluicegate.demo_place import CACHE
    from sluicegate.terminal import WIDTH, cell, console, table

    if probe is not None and not cluster:
        message = "--probe: is part of the look at a cluster: give --cluster, too"
        raise problems.CommandProblem(message)
    for option, given in (("--probe-image", probe_image), ("--probe-wait", probe_wait)):
        if given is not None and probe is None:
            message = f"{option}: is about the probe's pods, and nothing is probed: give --probe NAMESPACE, too"
            raise problems.CommandProblem(message)
    out, states = console(), []
    made = table("check", "state", "found")
    if exporter:
        from sluicegate.exporter_checks import exporter_checks

        findings = exporter_checks(invocation(context).node_settings)
    elif cluster:
        from sluicegate.cluster_checks import ProbePlace, cluster_checks

        image = probe_image or f"sluicegate:{version('sluicegate')}"
        place = None if probe is None else ProbePlace(probe, image, probe_wait or _PROBE_WAIT_S)
        findings = cluster_checks(invocation(context).settings.response, kubeconfig, kube_context, place)
    else:
        findings = all_checks(invocation(context).settings.stream, CACHE, kubeconfig, kube_context)
    for finding in findings:
        states.append(finding.state)
        if as_json:
            typer.echo(orjson.dumps(dataclasses.asdict(finding)).decode())
            continue
        style = {"ok": "green", "missing": "red", "off": "yellow"}[finding.state]
        text = f"{finding.found} → {finding.remedy}" if finding.remedy else finding.found
        made.add_row(cell(finding.name), cell(finding.state, style), cell(text))
    if not as_json:
        out.print(made, width=WIDTH)
    if "missing" in states:
        raise typer.Exit(problems.UNREACHABLE)
