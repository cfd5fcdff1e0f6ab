"""From settings and files to the stages that replay and the agents share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detectors.rule_file import RuleError, RuleFile, load_rule_file
from response.policyfile import DecisionPolicy, load_policy
from schemas.identity import IdentityTable
from sluicegate.detector_settings import overrides
from sluicegate.settings import Settings
from stream.inventory_log import InventoryLog
from stream.stages import Parts, PipelineSettings
from stream.watch_log import WatchLog


def pipeline_settings(settings: Settings) -> PipelineSettings:
    """Return what decides which alerts come out of a log."""
    return PipelineSettings(engine=settings.engine, alerts=settings.alerts, detectors=overrides(settings.detectors))


def read_rules(paths: Sequence[Path]) -> RuleFile:
    """Return what several files say, in their order.

    Raises:
        RuleError: every mistake of the first file that has any, or a name used in two files.
    """
    joined = RuleFile()
    seen: dict[str, Path] = {}
    for path in paths:
        read = load_rule_file(path)
        names = [f"rule {r.name}" for r in read.rules] + [f"rule {s.name}" for s in read.sequences]
        for name in [*names, *(f"exception {e.name}" for e in read.exceptions)]:
            if name in seen:
                raise RuleError([f"{path}: {name}: {seen[name]} has one of the same name"])
            seen[name] = path
        joined = joined.joined(read)
    return joined


def parts(
    settings: Settings, identities: IdentityTable | None = None, rules: Sequence[Path] = (), policy: Path | None = None,
    inventory: InventoryLog | None = None, watches: WatchLog | None = None,
) -> Parts:  # fmt: skip
    """Return what builds stages that agree on settings, rules, identities and policy.

    Raises:
        RuleError, PolicyFileError: a file that cannot be used.
    """
    return Parts(pipeline_settings(settings), identities, read_rules(rules), read_policy(policy), inventory, watches)


def read_policy(path: Path | None) -> DecisionPolicy:
    """Return the policy of a file; none: the one that ships.

    Raises:
        PolicyFileError: it cannot be used.
    """
    return load_policy(path) if path is not None else load_policy()
