"""Containments as text for people and as JSON values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.text import Text

from response.ledger import STANDING, WAITING, Allowed, Containment, Proposal
from response.prove import Proof
from response.render import manifests_yaml, proof_table
from schemas.action import Action
from schemas.word import iso_time
from sluicegate.alert_view import time_text
from sluicegate.state_view import age_text
from sluicegate.terminal import cell, console, shortened, table, wrapped

_STYLES = {"applied": "yellow", "effective": "green", "ineffective": "red", "failed": "red", "proposed": "cyan"}
_GOOD = frozenset(
    {"applied", "approved", "rejected", "extended", "allowed", "disallowed", "stopped", "resumed", "reverted",
     "cancelled"}
)  # fmt: skip


def print_containments(found: Sequence[Containment], now: float) -> None:
    """Print one row per containment, and one for what waits to take its place; `now` is s since epoch, for ages."""
    right = ("SINCE", "ANSWERED", "LEFT", "LEVEL")
    rows = table("RESPONSE", "PHASE", "SINCE", "ANSWERED", "ACTION", "TARGET", "LEFT", "LEVEL", right=right)
    for item in found:
        rows.add_row(
            cell(item.response_id),
            cell(item.phase, _STYLES.get(item.phase, "")),
            cell(age_text(now - item.since)),
            cell(f"{item.answered_s:.1f} s" if item.answered_s is not None else "-"),
            cell(item.action or "-"),
            cell(shortened(item.target, 60)),
            cell(left_text(item, now)),
            cell(item.level or "-"),
        )
        if item.next is not None:
            by, what = waiting_text(item, now), shortened(item.next.target, 60)
            rows.add_row(
                cell(item.response_id), cell("proposed", _STYLES["proposed"]), cell("-"), cell("-"),
                cell(item.next.action), cell(what), cell(by), cell("-"),
            )  # fmt: skip
    console().print(rows)


def left_text(item: Containment, now: float) -> str:
    """How long it still lasts, or by when somebody must say something."""
    if item.phase in STANDING and item.expires_at:
        from response.enforce import seconds

        return age_text(max(0.0, seconds(item.expires_at) - now))
    return waiting_text(item, now) if item.phase in WAITING else "-"


def waiting_text(item: Containment, now: float) -> str:
    """By when somebody must say something."""
    if not item.deadline:
        return "-"
    return "overdue" if now > item.deadline else age_text(item.deadline - now)


def words_of(item: Containment) -> dict[str, Any]:
    """One containment as JSON values."""
    return {
        "response_id": item.response_id,
        "phase": item.phase,
        "since": iso_time(item.since),
        "alert_id": item.alert_id,
        "action": item.action,
        "target": item.target,
        "reason": item.reason,
        "message": item.message,
        "level": item.level,
        "expires_at": item.expires_at or None,
        "deadline": iso_time(item.deadline) if item.deadline else None,
        "deadline_missed": item.missed,
        "approvals": list(item.approvals),
        "next": _proposal_words(item.next) if item.next is not None else None,
        "repairs": item.repairs,
        "answered_s": item.answered_s,
        "evidence": list(item.evidence),
        "manifests": list(item.manifests),
        "proof": item.proof,
        "decision": item.decision.model_dump(mode="json") if item.decision is not None else None,
    }


def _proposal_words(item: Proposal) -> dict[str, Any]:
    return {
        "action": item.action,
        "target": item.target,
        "approvals": list(item.approvals),
        "manifests": list(item.manifests),
        "proof": item.proof,
        "decision": item.decision.model_dump(mode="json"),
    }


def print_containment(item: Containment, now: float) -> None:
    """Print what a containment is, what it wrote and what was proven."""
    out = console()
    out.print(cell(f"{item.response_id}: {item.phase}", "bold"))
    for name, text in _facts(item, now):
        for line in wrapped(f"{name:<12}{text}", "  ", later=" " * 14):
            out.print(Text(line))
    for text in item.evidence:
        for line in wrapped(f"{'evidence':<12}{text}", "  ", later=" " * 14):
            out.print(Text(line))
    _print_plan(item.manifests, item.proof)
    if item.next is not None:
        out.print(cell(f"  {item.next.action} on {shortened(item.next.target, 60)}, which waits for approval", "bold"))
        _print_plan(item.next.manifests, item.next.proof)


def _print_plan(manifests: Sequence[Mapping[str, Any]], proof: Mapping[str, Any] | None) -> None:
    out = console()
    for line in manifests_yaml(manifests).splitlines() if manifests else ():
        out.print(cell(f"    {line}"))
    if proof is not None:
        out.print(cell("  proof"))
        for row in proof_table(Proof.model_validate(dict(proof))).splitlines():
            for line in wrapped(row, "    ", later=" " * 16):
                out.print(Text(line))


def print_story(item: Containment, steps: Iterable[Action], now: float) -> None:
    """Print why there is a containment, each step that led here, and what comes next."""
    out = console()
    out.print(cell(f"{item.response_id}: {item.phase}", "bold"))
    if item.decision is not None:
        why = f"{item.decision.detector} found {item.decision.kind} ({item.decision.severity}, confidence "
        for line in wrapped(f"{why}{item.decision.confidence:g}): {item.decision.reason}", "  "):
            out.print(Text(line))
    for step in steps:
        print_step(step)
    for line in wrapped(f"Next: {_next(item, now)}", "  "):
        out.print(Text(line, style="bold"))


def print_step(step: Action) -> None:
    """Print one step of the audit."""
    by = f" by {step.operator}" if step.operator and step.operator not in step.message else ""
    what = f"{step.action} {step.outcome}" if step.action else step.outcome
    text = f"{time_text(step.at)}  {what}{by}: {step.reason}: {step.message}"
    style = "green" if step.outcome in _GOOD else "yellow"
    for line in wrapped(text, "  ", later=" " * 23):
        console().print(Text(line, style=style))


def print_allowed(entries: Sequence[Allowed]) -> None:
    """Print the allow-list."""
    rows = table("TARGET", "UNTIL", "BY", "REASON")
    for item in entries:
        until = iso_time(item.until) if item.until else "for good"
        rows.add_row(cell(item.target), cell(time_text(until)), cell(item.operator), cell(item.reason))
    console().print(rows)


def _facts(item: Containment, now: float) -> Iterable[tuple[str, str]]:
    yield "alert", item.alert_id
    yield "action", f"{item.action or 'none'} on {item.target}"
    yield "since", f"{time_text(iso_time(item.since))} ({age_text(now - item.since)} ago)"
    yield "reason", f"{item.reason}: {item.message}"
    if item.answered_s is not None:
        yield "answered", f"until {item.answered_s:.1f} s after it was applied, as packets showed it"
    if item.expires_at:
        yield "until", f"{time_text(item.expires_at)} (relapses so far: {item.level})"
    if item.deadline:
        yield "deadline", time_text(iso_time(item.deadline)) + (", missed" if item.missed else "")
    if item.approvals:
        yield "approved", ", ".join(item.approvals)


def _next(item: Containment, now: float) -> str:
    if item.next is not None:
        wanted = max(1, item.next.decision.approvals - len(item.next.approvals))
        return f"{wanted} more approvals let {item.next.action} take the place of {item.action}; reject leaves it there"
    if item.phase in STANDING:
        return f"it ends in {left_text(item, now)}; containments extend, revert or allow add change that"
    if item.phase in WAITING and item.decision is not None and item.decision.mode == "approve":
        return f"{max(0, item.decision.approvals - len(item.approvals))} more approvals carry it out"
    if item.phase in WAITING:
        return "nothing: this mode only shows what would be done"
    if item.phase in ("expired", "released"):
        return "nothing while the attack stays away; if it comes back it is contained for longer"
    if item.phase in ("rejected", "reverted"):
        return "it stays as it is until somebody approves it"
    return "a later revision of the alert is decided anew"
