"""From settings and files to the stages that replay and the agents share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detectors.rule_file import Rule, RuleError, load_rules
from response.policyfile import DecisionPolicy, load_policy
from schemas.identity import IdentityTable
from sluicegate.detector_settings import overrides
from sluicegate.settings import Settings
from stream.pipeline import Parts, PipelineSettings


def pipeline_settings(settings: Settings) -> PipelineSettings:
    """Return what decides which alerts come out of a log."""
    return PipelineSettings(engine=settings.engine, alerts=settings.alerts, detectors=overrides(settings.detectors))


def read_rules(paths: Sequence[Path]) -> list[Rule]:
    """Return the rules of several files, in their order.

    Raises:
        RuleError: every mistake of the first file that has any, or a name used in two files.
    """
    rules: list[Rule] = []
    seen: dict[str, Path] = {}
    for path in paths:
        for rule in load_rules(path):
            if rule.name in seen:
                raise RuleError([f"{path}: rule {rule.name}: {seen[rule.name]} has one of the same name"])
            seen[rule.name] = path
            rules.append(rule)
    return rules


def parts(
    settings: Settings, identities: IdentityTable | None = None, rules: Sequence[Path] = (), policy: Path | None = None
) -> Parts:
    """Return what builds stages that agree on settings, rules, identities and policy.

    Raises:
        RuleError, PolicyFileError: a file that cannot be used.
    """
    return Parts(pipeline_settings(settings), identities, read_rules(rules), read_policy(policy))


def read_policy(path: Path | None) -> DecisionPolicy:
    """Return the policy of a file; none: the one that ships.

    Raises:
        PolicyFileError: it cannot be used.
    """
    return load_policy(path) if path is not None else load_policy()
