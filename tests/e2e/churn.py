"""Pods that come and go on a real API server, with a record of who had which address when.

Nothing runs these pods: they are created bound to a node, and given addresses by their status as a kubelet would.
`python -m tests.e2e.churn --pods 5000 --rate 50 --seconds 60` measures the inventory agent against that record.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import random
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2 as httpx

from exporter.inventory.agent import InventoryAgent
from exporter.inventory.kube_client import KubeClient
from exporter.inventory.kubernetes import KubernetesSource
from exporter.inventory.settings import InventorySettings
from schemas.identity import IdentityTable
from schemas.inventory import InventoryObject
from tests.e2e import apiserver

NODE = "churn-node"
FIRST_ADDRESS = int(ipaddress.ip_address("10.64.0.10"))
AT_ONCE = 16  # requests on their way


def now() -> float:
    return time.time()  # noqa: TID251 - the record and the agent go by the same clock


@dataclass
class Tenancy:
    """A pod's time with an address, s since epoch."""

    ip: str
    pod: str
    begin: float
    sure: float = float("inf")  # until when it surely had it: when its end was asked for
    end: float = float("inf")  # from when it surely has it no more


class Listener:
    """A delivery that is a worker's table at once."""

    def __init__(self) -> None:
        self.table = IdentityTable()
        self.heard: dict[str, float] = {}
        self.last: dict[str, InventoryObject] = {}  # by uid
        self.statements = 0

    async def identify(self, objects: Sequence[InventoryObject]) -> None:
        self.statements += len(objects)
        for item in objects:
            self.table.add(InventoryObject.decode(item.encode()))
            self.last[item.uid] = item
            if item.valid_to is None:
                self.heard.setdefault(item.name, now())


class Churn:
    """Creates and deletes pods of one namespace; addresses are given again `gap` seconds after they were freed."""

    def __init__(self, server: apiserver.ApiServer, namespace: str, gap: float) -> None:
        headers = {"Authorization": f"Bearer {apiserver.ADMIN_TOKEN}"}
        self._http = httpx.AsyncClient(base_url=server.url, headers=headers, verify=False, timeout=60, trust_env=False)
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._namespace = namespace
        self._gap = gap
        self._free: deque[tuple[float, str]] = deque()
        self._given = 0
        self._made = 0
        self._gate = asyncio.Semaphore(AT_ONCE)
        self.truth: list[Tenancy] = []
        self._running: deque[Tenancy] = deque()

    def moved_to(self, server: apiserver.ApiServer) -> Churn:
        """The same pods and record on another server of the same store."""
        moved = Churn(server, self._namespace, self._gap)
        moved._free, moved._given, moved._made = self._free, self._given, self._made
        moved.truth, moved._running = self.truth, self._running
        return moved

    async def prepare(self) -> None:
        await self._post("/api/v1/namespaces", {"metadata": {"name": self._namespace}})
        await self._post("/api/v1/nodes", {"metadata": {"name": NODE}})

    async def close(self) -> None:
        await self._http.aclose()

    async def _post(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        answer = await self._http.post(path, json=document)
        assert answer.status_code in (200, 201), answer.text
        return dict(answer.json())

    def _address(self) -> str:
        if self._free and self._free[0][0] <= now() - self._gap:
            return self._free.popleft()[1]
        self._given += 1
        return str(ipaddress.ip_address(FIRST_ADDRESS + self._given))

    async def start(self) -> None:
        """Create one pod and give it an address."""
        self._made += 1
        name = f"web-{self._made % 50}-{self._made}"
        document = {
            "metadata": {"name": name, "labels": {"app": f"web-{self._made % 50}"}},
            "spec": {"nodeName": NODE, "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False,
                     "containers": [{"name": "main", "image": "example.invalid/none"}]},
        }  # fmt: skip
        async with self._gate:
            await self._post(self._pods, document)
            tenancy = Tenancy(self._address(), name, now())
            ready = datetime.fromtimestamp(int(tenancy.begin), UTC).isoformat().replace("+00:00", "Z")
            condition = {"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": ready}
            status = {
                "phase": "Running",
                "podIP": tenancy.ip,
                "podIPs": [{"ip": tenancy.ip}],
                "conditions": [condition],
            }
            answer = await self._http.patch(
                f"{self._pods}/{name}/status", json={"status": status},
                headers={"Content-Type": "application/merge-patch+json"},
            )  # fmt: skip
            assert answer.status_code == 200, answer.text
        self.truth.append(tenancy)
        self._running.append(tenancy)

    async def stop(self) -> None:
        """Delete the pod that runs longest; its address is free."""
        while not self._running:  # noqa: ASYNC110 - those that were asked for are still being made
            await asyncio.sleep(0.01)
        tenancy = self._running.popleft()
        async with self._gate:
            tenancy.sure = now()
            answer = await self._http.delete(f"{self._pods}/{tenancy.pod}")
            assert answer.status_code == 200, answer.text
        tenancy.end = now()
        self._free.append((tenancy.end, tenancy.ip))

    async def fill(self, pods: int) -> None:
        await asyncio.gather(*(self.start() for _ in range(pods)))

    async def turn(self, rate: float, seconds: float) -> None:
        """Replace pods at a steady rate."""
        begun, tasks = now(), []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, begun + number / rate - now()))
            tasks += [asyncio.ensure_future(self.stop()), asyncio.ensure_future(self.start())]
        await asyncio.gather(*tasks)


@dataclass
class Verdict:
    """How a table compares with the record."""

    right: int = 0
    wrong: list[str] = field(default_factory=list)
    free: int = 0


def compare(truth: Sequence[Tenancy], table: IdentityTable, until: float, looks: int, seed: int) -> Verdict:
    """Look up who had an address at begin, end and some moments of each tenancy, and that nobody had it in between."""
    chance, verdict = random.Random(seed), Verdict()
    of_address: dict[str, list[Tenancy]] = {}
    for tenancy in truth:
        of_address.setdefault(tenancy.ip, []).append(tenancy)
    for ip, tenancies in of_address.items():
        tenancies.sort(key=lambda t: t.begin)
        for number, tenancy in enumerate(tenancies):
            last = min(tenancy.sure, until)
            moments = [tenancy.begin, last, *(chance.uniform(tenancy.begin, last) for _ in range(looks))]
            for moment in moments:
                found = table.find(ip, int(moment) + 1)  # the cut that closes the second of a packet
                if found is not None and found.name == tenancy.pod:
                    verdict.right += 1
                else:
                    verdict.wrong.append(f"{ip} at {moment:.3f}: {found and found.name}, not {tenancy.pod}")
            # Two seconds past its end an address is nobody's until it is given again.
            after = tenancies[number + 1].begin if number + 1 < len(tenancies) else until
            for moment in range(int(tenancy.end) + 3 if tenancy.end < until else int(until), int(after) - 1):
                found = table.find(ip, moment)
                verdict.free += 1
                if found is not None:
                    verdict.wrong.append(f"{ip} at {moment}: {found.name}, though it was free")
    return verdict


async def run(server: apiserver.ApiServer, pods: int, rate: float, seconds: float, gap: float) -> None:
    churn, listener = Churn(server, "churn", gap), Listener()
    await churn.prepare()
    settings = InventorySettings()
    client = KubeClient(settings, server.kubeconfig)
    agent = InventoryAgent(KubernetesSource(client, "test", settings, now), listener, "test", settings, now)
    begun = now()
    await churn.fill(pods)
    print(f"{pods} pods created in {now() - begun:.1f} s")
    stop, base, cpu = asyncio.Event(), _rss(), time.process_time()
    begun = now()
    running = asyncio.create_task(agent.run(stop))
    await _passed(agent, begun)
    print(f"all known after {now() - begun:.1f} s, {listener.statements} statements, "
          f"{time.process_time() - cpu:.1f} s CPU, {_rss() - base:.0f} MB more")  # fmt: skip
    await churn.turn(rate, seconds)
    until = now()
    await _passed(agent, until + 1)
    stop.set()
    await running
    verdict = compare(churn.truth, listener.table, until, 5, 1)
    late = sorted(listener.heard[t.pod] - t.begin for t in churn.truth if t.begin > begun + 5)
    print(f"{len(churn.truth)} tenancies of {len({t.ip for t in churn.truth})} addresses; looked up {verdict.right} "
          f"right, {len(verdict.wrong)} wrong, {verdict.free} seconds free")  # fmt: skip
    if late:
        print(f"known to the table after: median {late[len(late) // 2]:.2f} s, "
              f"p99 {late[int(len(late) * 0.99)]:.2f} s, longest {late[-1]:.2f} s")  # fmt: skip
    print(f"table {listener.table.counts()}; restarts {dict(agent.book.restarts)}; "
          f"process {_rss():.0f} MB, of which {_rss() - base:.0f} MB since the pods were there")  # fmt: skip
    for line in verdict.wrong[:10]:
        print("wrong:", line)
    await client.close()
    await churn.close()


async def _passed(agent: InventoryAgent, moment: float) -> None:
    while agent.watermark < moment:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.05)


def _rss() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--gap", type=float, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, apiserver.running(Path(folder)) as server:
        asyncio.run(run(server, given.pods, given.rate, given.seconds, given.gap))


if __name__ == "__main__":
    main()
