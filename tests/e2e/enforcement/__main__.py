"""How soon attacks are stopped: `make enforcement`, or `python -m tests.e2e.enforcement --runs N [--attack NAME]…`.

What policies cannot end, an agent on the node ends. Each run has a lab, topics and processes of its own; broker and API
server are shared. Prints a line per run, then the tables of docs/enforcement.md.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sluicegate.demo_place import CACHE
from sluicegate.local_broker import local_broker
from tests.e2e import apiserver
from tests.e2e.enforcement.attacks import ATTACKS, BY_ATTACK, Attack
from tests.e2e.enforcement.chain import CAST, FAULTS, JUDGED_SECONDS, Played, lab_options, play
from tests.e2e.enforcement.conftest import unavailable
from tests.e2e.enforcement.lab_cluster import LabCluster, server_flags

GOAL_S = 3.0


def run(attack: Attack, server: apiserver.ApiServer, bootstrap: str, judged: float, fault: str | None) -> Played:
    """One attack in a lab of its own; what its neighbours saw is read before their files go."""
    port = int(bootstrap.rsplit(":", 1)[1])
    with (
        tempfile.TemporaryDirectory() as name,
        LabCluster(server, Path(name), CAST, more_ports=[port], **lab_options(attack, fault)) as cluster,
    ):
        if fault is not None:
            FAULTS[fault](cluster)
        node_agent = attack.established or fault is not None
        return play(attack, cluster, bootstrap, Path(name), judged, node_agent=node_agent)


def rank(values: Sequence[float], share: float) -> float:
    """The nearest-rank quantile: of 20 values the 99th percentile is the largest."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def table(runs: Sequence[Played]) -> Iterator[str]:
    """One row per stage, in ms."""
    yield "| stage | p50 | p99 | longest |"
    yield "|---|---|---|---|"
    for stage in runs[0].timeline.stages():
        values = [1000 * played.timeline.stages()[stage] for played in runs]
        yield f"| {stage} | {statistics.median(values):,.0f} | {rank(values, 0.99):,.0f} | {max(values):,.0f} |"


def report(attack: Attack, runs: Sequence[Played]) -> None:
    """Print what came of the runs of one attack."""
    actions = Counter(played.timeline.action.action for played in runs)
    loads = [played.timeline.load for played in runs]
    exchanges, failures = sum(played.exchanges for played in runs), sum(len(played.failed) for played in runs)
    stopped = sum(played.timeline.stopped for played in runs)
    print(f"\n{attack.name}: {len(runs)} runs, stopped in {stopped}, by {dict(actions)}")
    verdicts = Counter(p.timeline.verdict.outcome if p.timeline.verdict else "not judged" for p in runs)
    print(f"verdicts {dict(verdicts)}")
    print(f"load {min(loads):.1f} to {max(loads):.1f} on {os.cpu_count()} cores; "
          f"neighbours: {exchanges:,} exchanges, {failures} failed\n")  # fmt: skip
    print("\n".join(table(runs)), flush=True)


@contextmanager
def session() -> Iterator[tuple[apiserver.ApiServer, str]]:
    """A broker and an API server."""
    with local_broker(CACHE) as broker, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with apiserver.running(folder, flags=server_flags(folder)) as server:
            yield server, broker.bootstrap


def main(options: argparse.Namespace) -> int:
    """Run what was asked for; 1 where an attack went on, was stopped late by a policy, or hurt a neighbour."""
    if reason := unavailable():
        print(reason, file=sys.stderr)
        return 2
    missed = False
    with session() as (server, bootstrap):
        for attack in (BY_ATTACK[name] for name in options.attack):
            runs = []
            for number in range(options.runs):
                runs.append(run(attack, server, bootstrap, options.judged, options.fault))
                print(f"{attack.name} {number + 1}: {runs[-1].line()}", flush=True)
            report(attack, runs)
            late = rank([played.timeline.stages()["packet to answered"] for played in runs], 0.99) > GOAL_S
            hurt = any(played.failed for played in runs)
            alive = any(not played.timeline.stopped for played in runs)
            missed |= hurt or alive or (late and not attack.established and not options.fault)
    return int(missed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--attack", action="append", choices=sorted(BY_ATTACK), help="may be repeated; default: all")
    parser.add_argument("--judged", type=float, default=JUDGED_SECONDS,
                        help="s to wait for the product's own verdict; 0: only the times")  # fmt: skip
    parser.add_argument("--fault", choices=sorted(FAULTS), help="what is wrong with the enforcement meanwhile")
    options = parser.parse_args()
    options.attack = options.attack or [attack.name for attack in ATTACKS]
    sys.exit(main(options))
