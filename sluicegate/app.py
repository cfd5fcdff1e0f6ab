"""The command tree; each command is a file of ``sluicegate.commands``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from sluicegate.commands import (
    alerts,
    allow,
    config,
    containments,
    demo,
    doctor,
    evaluate,
    export,
    inspect_file,
    inventory,
    keys,
    node_agent,
    policy,
    replay,
    respond,
    rules,
    state,
    topics,
    version,
    worker,
)
from sluicegate.invocation import Invocation


def _tree(help_text: str | None = None) -> typer.Typer:
    return typer.Typer(
        help=help_text, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
        rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )  # fmt: skip


app = _tree("Detect attacks on the network of a container platform and contain them with proven policy.")


@app.callback()
def root(
    context: typer.Context,
    config_file: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", envvar="SLUICEGATE_CONFIG", help="Settings (YAML)."),
    ] = None,
) -> None:
    """Detect attacks on the network of a container platform and contain them with proven policy."""
    context.obj = Invocation(config_file)


def _add(tree: typer.Typer, name: str, command: Callable[..., Any], *examples: str) -> None:
    """Put a command in a tree; its help ends with examples."""
    lines = [f"Example: sluicegate {example}" for example in examples]
    tree.command(name, epilog="\n\n".join(lines))(command)


_add(app, "replay", replay.replay, "replay capture.pcapng.gz --inventory inventory.jsonl")
_add(app, "inspect", inspect_file.inspect, "inspect capture.pcap --top 5")
_add(
    app,
    "export",
    export.export,
    "export capture.pcap --to jsonl --output events.jsonl",
    "export --to kafka --uplink eth0 --node worker-3",
)
_add(app, "worker", worker.worker, "--config settings.yaml worker --rules rules.yaml")
_add(app, "respond", respond.respond, "respond --kubeconfig ~/.kube/config")
_add(app, "inventory", inventory.inventory, "inventory --cluster east", "inventory --once > inventory.jsonl",
     "inventory --docker /var/run/docker.sock")  # fmt: skip
_add(app, "evaluate", evaluate.evaluate, "evaluate tests/cases --kinds port_scan_vertical,syn_flood")
_add(app, "doctor", doctor.doctor, "doctor --kubeconfig ~/.kube/config", "doctor --cluster")
_add(app, "demo", demo.demo, "demo --embedded")
_add(app, "version", version.version, "version --json")

_alerts = _tree("Read alerts from the broker.")
_add(_alerts, "tail", alerts.tail, "alerts tail --from-beginning --json")
app.add_typer(_alerts, name="alerts")

_topics = _tree("Create and check the topics on the broker.")
_add(_topics, "create", topics.create, "topics create")
_add(_topics, "check", topics.check, "topics check")
app.add_typer(_topics, name="topics")

_state = _tree("Look at the snapshots from which agents start, and drop them.")
_add(_state, "list", state.list_states, "state list")
_add(_state, "show", state.show, "state show detect 0")
_add(_state, "drop", state.drop, "state drop detect --yes")
app.add_typer(_state, name="state")

_rules = _tree("Check rule files and show what the engine computes for them.")
_rules = _tree("Check rule files, make them from Sigma, and show what the engine computes for them.")
_add(_rules, "check", rules.check, "rules check examples/rules/mission.yaml")
_add(_rules, "import", rules.import_rules, "rules import sigma.yml --output rules.yaml")
_add(_rules, "plan", rules.plan, "rules plan --rules examples/rules/mission.yaml")
app.add_typer(_rules, name="rules")

_config = _tree("Show settings.")
_add(_config, "show", config.show, "config show stream.kafka")
app.add_typer(_config, name="config")

_keys = _tree("Make the keys that sign commands.")
_add(_keys, "new", keys.new, "keys new ana-laptop ana.pem --person 'Ana Ruiz' >> operators.yaml")
app.add_typer(_keys, name="keys")

_containments = _tree("See what is contained, and say what shall become of it.")
_add(_containments, "list", containments.list_containments, "containments list", "containments list --all --json")
_add(_containments, "show", containments.show, "containments show 4f2a")
_add(_containments, "explain", containments.explain, "containments explain 4f2a")
_add(_containments, "approve", containments.approve, "containments approve 4f2a --reason 'seen in the logs, too'")
_add(_containments, "reject", containments.reject, "containments reject 4f2a --reason 'a planned load test'")
_add(_containments, "extend", containments.extend, "containments extend 4f2a --for 7200")
_add(_containments, "revert", containments.revert, "containments revert 4f2a --reason 'repaired'")
_add(_containments, "record", containments.record, "containments record 4f2a --output incident.md")
_add(_containments, "stop", containments.stop, "containments stop --reason 'wrong rule'")
_add(_containments, "resume", containments.resume, "containments resume --reason 'rule repaired'")
app.add_typer(_containments, name="containments")

_allow = _tree("Say whom responses never cut off.")
_add(_allow, "add", allow.add, "allow add 203.0.113.7 --reason 'our scanner' --for 86400")
_add(_allow, "remove", allow.remove, "allow remove 203.0.113.7")
_add(_allow, "list", allow.list_allowed, "allow list")
app.add_typer(_allow, name="allow")

_policy = _tree("Try a policy file before it decides.")
_add(_policy, "test", policy.try_policy, "policy test policy.yaml --alerts alerts.jsonl --inventory inventory.jsonl")
app.add_typer(_policy, name="policy")
_add(app, "node-agent", node_agent.node_agent, "node-agent --node worker-3", "node-agent --uninstall")
