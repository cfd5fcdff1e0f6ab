"""``sluicegate inspect``: what a capture, flow log or event file holds."""

from __future__ import annotations

from typing import Annotated

import typer

from sluicegate.invocation import invocation


def inspect(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Capture, flow log or event file; - for a pipe.")],
    top: Annotated[int, typer.Option(min=1, max=1000, help="Entries of each list.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Show what a file holds: span, clocks, talkers, protocols, ports, DNS, TCP outcomes, TTL, ARP.

    Flows and names are counted by the exporter's own code, as the detectors will see them.
    """
    import orjson

    from exporter.chunks import CaptureReport
    from sluicegate.clock_summary import read_clock
    from sluicegate.inputs import has_packets, read_any
    from sluicegate.terminal import console
    from sluicegate.traffic_report import print_summary
    from sluicegate.traffic_summary import TrafficSummary

    settings = invocation(context).settings.exporter
    summary, report = TrafficSummary(), CaptureReport()
    for message in read_any(file, "inspected", "inspected", settings, report):
        summary.add(message)
    result = {
        "file": file,
        # A pipe can be read only once; event messages and flow logs have no packets.
        "clock": read_clock(file, settings.reading) if has_packets(file) else None,
        "problems": report.problems,
        "malformed": report.malformed,
        "other_packets": report.other,
        "repeated_records": report.repeated,
        **summary.result(top),
    }
    if as_json:
        typer.echo(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())
    else:
        print_summary(console(), result)
