"""The result of ``sluicegate inspect`` as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from schemas.word import iso_time
from sluicegate.terminal import cell, escape, table, wrapped

if TYPE_CHECKING:
    from rich.console import Console

# https://www.iana.org/assignments/dns-parameters
_QTYPES = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 10: "NULL", 12: "PTR", 15: "MX", 16: "TXT", 25: "KEY", 28: "AAAA", 33: "SRV",
    35: "NAPTR", 43: "DS", 46: "RRSIG", 48: "DNSKEY", 64: "SVCB", 65: "HTTPS", 255: "ANY",
}  # fmt: skip
_RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


def size(value: float) -> str:
    """Return bytes as people read them, in powers of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def share(part: float, whole: float) -> str:
    """Return a share in percent; nothing of nothing is a dash."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def print_summary(out: Console, result: Mapping[str, Any]) -> None:
    """Print everything; sections without content are left out."""
    _print_clock(out, result)
    for problem in result["problems"]:
        out.print(cell(f"warning: {problem}", "yellow"))
    _print_sources(out, result["sources"])
    _print_talkers(out, result["talkers"])
    _print_protocols(out, result)
    _print_tcp(out, result["tcp"])
    _print_dns(out, result["dns"])
    _print_arp(out, result["arp"])


def _line(out: Console, name: str, text: str) -> None:
    for line in wrapped(f"{name:<12}{text}", "", later=" " * 12):
        out.print(cell(line))


def _print_clock(out: Console, result: Mapping[str, Any]) -> None:
    out.print(cell(str(result["file"]), "bold"))
    clock = result["clock"]
    if clock and clock["packets"]:
        rate = f", {clock['packets_per_s']:,} packets/s" if clock["packets_per_s"] else ""
        _line(out, "span", f"{clock['first']} to {clock['last']}, {clock['span_s']:,.3f} s")
        _line(
            out,
            "packets",
            f"{clock['packets']:,} ({size(clock['bytes'])}){rate}, busiest second {clock['busiest_second']:,}",
        )
        _line(out, "clock", _clock_text(clock))
        if clock["cut_short"]:
            _line(out, "cut short", f"{clock['cut_short']:,} packets were captured only in part")
        names = ", ".join(f"{name} {count:,}" for name, count in sorted(clock["interfaces"].items()))
        _line(out, "interfaces", names)
    counts = ", ".join(f"{kind} {number:,}" for kind, number in result["rows"].items() if number)
    _line(out, "rows", counts or "none")
    if result["malformed"] or result["other_packets"]:
        _line(out, "not counted", f"malformed {result['malformed']:,}, neither IP nor ARP {result['other_packets']:,}")


def _clock_text(clock: Mapping[str, Any]) -> str:
    order = "in order"
    if clock["inversions"]:
        order = f"{clock['inversions']:,} steps backwards, the largest {clock['worst_inversion_s']:,.6f} s"
    gaps = f"longest quiet {clock['longest_gap_s']:,.3f} s"
    if clock["gaps"]:
        longest = f"{clock['longest_gap_s']:,.1f} s from {clock['longest_gap_at']}"
        gaps = f"{clock['gaps']:,} quiet spells above 10 s, the longest {longest}"
    return f"{order}; {gaps}"


def _print_sources(out: Console, sources: Sequence[Mapping[str, Any]]) -> None:
    for source in sources:
        span = f"{iso_time(source['first_cut'])} to {iso_time(source['last_cut'])}"
        name = (
            f"{source['cluster']}/{source['node']} {source['exporter']} ({source['source']}, clock {source['clock']})"
        )
        _line(out, "source", f"{name}: {source['messages']:,} messages, cuts {span}")
        odd = {
            name: source[name] for name in ("backwards", "missing_messages", "lost_packets", "lost_rows", "malformed")
        }
        if any(odd.values()):
            _line(out, "", ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in odd.items() if count))
        _line(out, "", f"sees {', '.join(source['sees'])}")
        _line(out, "", f"blind to {', '.join(source['blind_to']) or 'nothing'}")


def _rows(out: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> None:
    made = table(*columns, title=title, right=tuple(columns[left:]))
    for row in rows:
        made.add_row(*(cell(text) for text in row))
    if made.row_count:
        out.print(made)


def _print_talkers(out: Console, talkers: Mapping[str, Any]) -> None:
    title = f"Top talkers ({talkers['pairs']:,} pairs; initiator first)"
    rows = [(r["src"], r["dst"], size(r["bytes"]), f"{r['packets']:,}", f"{r['flows']:,}") for r in talkers["top"]]
    _rows(out, title, ("initiator", "responder", "bytes", "packets", "flows"), rows, left=2)


def _print_protocols(out: Console, result: Mapping[str, Any]) -> None:
    protocols, ttl = result["protocols"], result["ttl"]
    flows, octets = sum(r["flows"] for r in protocols), sum(r["bytes"] for r in protocols)

    def shares(name: str, row: Mapping[str, Any]) -> Sequence[str]:
        return (name, f"{row['flows']:,}", share(row["flows"], flows), size(row["bytes"]), share(row["bytes"], octets))

    columns = ("flows", "of flows", "bytes", "of bytes")
    _rows(out, "Protocols", ("protocol", *columns), [shares(r["name"], r) for r in protocols])
    ports = [shares(f"{r['protocol']} {r['dst_port']}", r) for r in result["ports"]]
    _rows(out, "Responder ports", ("port", *columns), ports)
    if any(r["ttl_max"] for r in ttl):
        parts = [f"{r['ttl_max']}: {share(r['flows'], flows)}" for r in ttl if r["flows"]]
        _line(out, "TTL", ", ".join(parts) + " of flows")


def _print_tcp(out: Console, tcp: Mapping[str, Any]) -> None:
    flows, packets = tcp["flows"], tcp["packets"]
    if not flows["opened"]:
        return
    _rows(
        out, f"TCP outcomes ({flows['opened']:,} flows opened)", ("outcome", "flows", "of opened"),
        [(name, f"{count:,}", share(count, flows["opened"])) for name, count in flows.items() if name != "opened"],
    )  # fmt: skip
    names = {"src_syn": "SYN", "dst_synack": "SYN-ACK", "src_fin": "FIN by initiator", "dst_fin": "FIN by responder",
             "src_rst": "RST by initiator", "dst_rst": "RST by responder"}  # fmt: skip
    _line(out, "TCP flags", ", ".join(f"{label} {packets[name]:,}" for name, label in names.items()))


def _print_dns(out: Console, dns: Mapping[str, Any]) -> None:
    if not dns["queries"] and not dns["unsolicited"]:
        return
    codes = ", ".join(f"{_RCODES.get(r['rcode'], r['rcode'])} {r['answers']:,}" for r in dns["codes"])
    types = ", ".join(f"{_QTYPES.get(r['qtype'], r['qtype'])} {r['queries']:,}" for r in dns["types"] if r["queries"])
    out.print()
    odd = f"unanswered {dns['unanswered']:,}, unsolicited {dns['unsolicited']:,}"
    _line(out, "DNS", f"{dns['queries']:,} queries for {dns['names']:,} names; {odd}")
    _line(out, "", f"types: {types}")
    _line(out, "", f"answers: {codes or 'none'}")
    if dns["latency_ms"]:
        _line(out, "", "latency: " + ", ".join(f"{name} {value:,} ms" for name, value in dns["latency_ms"].items()))
    _rows(out, "Names asked", ("name", "queries", "failed"),
          [(escape(r["qname"]) or ".", f"{r['queries']:,}", f"{r['failures']:,}") for r in dns["top"]])  # fmt: skip
    _rows(out, "Names that failed", ("name", "failed", "queries"),
          [(escape(r["qname"]) or ".", f"{r['failures']:,}", f"{r['queries']:,}") for r in dns["failing"]])  # fmt: skip


def _print_arp(out: Console, arp: Mapping[str, Any]) -> None:
    if not arp["claims"]:
        return
    _line(out, "ARP", f"{arp['claims']:,} claims about {arp['addresses']:,} addresses")
    for row in arp["claimed_by_several"]:
        out.print(cell(f"{'':<12}{row['address']} is claimed by {', '.join(row['macs'])}", "yellow"))
