"""What goes wrong: workers are killed, come and go; brokers die, or are away for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np

from sluicegate.local_broker import LocalBroker
from tests.torture.kafka_run import Disturbance, Run

# A worker that has no partition at the moment never gets where it should be killed; it is killed then.
_KILL_WITHIN_S = 20.0


def kills(count: int, seed: int) -> Disturbance:
    """SIGKILL a worker `count` times, at offsets that the seed chooses, and start another at once.

    The log is sent in `count` + 1 slices, one after each kill, so that there is always something to do; a worker dies
    when it has fed a number of messages, from none to a slice, since its own start.
    """

    async def disturb(run: Run) -> None:
        dice = np.random.default_rng([seed, 2])
        slice_messages = run.messages // (count + 1)
        for _ in range(count):
            await run.send(slice_messages)
            worker = run.fleet.workers[int(dice.integers(0, len(run.fleet.workers)))]
            fed = int(dice.integers(0, max(1, slice_messages)))
            await run.fleet.until(worker, lambda s, fed=fed: s.messages.get("detect", 0) >= fed, _KILL_WITHIN_S)  # type: ignore[misc]
            if worker in run.fleet.workers:
                run.fleet.kill(worker)
                run.fleet.join()
                run.events += 1
        await run.send()

    return disturb


def coming_and_going(seconds: float, every: float, seed: int) -> Disturbance:
    """A worker joins or leaves (the seed says which one) every so often, while the log is sent over all that time."""

    async def churn(run: Run) -> None:
        dice, loop = np.random.default_rng([seed, 3]), asyncio.get_running_loop()
        begun = loop.time()
        leaving: list[asyncio.Task[None]] = []
        while loop.time() - begun < seconds:
            if len(run.fleet.workers) > 1:
                worker = run.fleet.workers[int(dice.integers(0, len(run.fleet.workers)))]
                leaving.append(asyncio.create_task(run.fleet.leave(worker)))
                await asyncio.sleep(0)
            else:
                run.fleet.join()
            run.events += 1
            await asyncio.sleep(max(0.0, begun + run.events * every - loop.time()))
        await asyncio.gather(*leaving)

    async def disturb(run: Run) -> None:
        await asyncio.gather(run.send_within(seconds), churn(run))

    return disturb


def broker_killed(seconds: float, seed: int) -> Disturbance:
    """One broker of several is killed after a third of the time and started again after two thirds."""

    async def strike(run: Run) -> None:
        broker = _broker(run)
        node = int(np.random.default_rng([seed, 4]).integers(0, broker.nodes))
        await asyncio.sleep(seconds / 3)
        await asyncio.to_thread(broker.kill_node, node)
        await asyncio.sleep(seconds / 3)
        broker.start_node(node, wait=False)
        run.events += 1

    async def disturb(run: Run) -> None:
        await asyncio.gather(run.send_within(seconds), strike(run))

    return disturb


def brokers_paused(away: float) -> Disturbance:
    """All brokers are stopped by SIGSTOP: connections stay open, nothing answers; then they go on."""

    async def stop(broker: LocalBroker) -> None:
        for node in range(broker.nodes):
            broker.pause_node(node)

    async def go(broker: LocalBroker) -> None:
        for node in range(broker.nodes):
            broker.resume_node(node)

    return _away(away, stop, go)


def brokers_stopped(away: float) -> Disturbance:
    """All brokers end, as in a maintenance, and are started again."""

    async def stop(broker: LocalBroker) -> None:
        await asyncio.gather(*(asyncio.to_thread(broker.stop_node, node) for node in range(broker.nodes)))

    async def go(broker: LocalBroker) -> None:
        for node in range(broker.nodes):
            broker.start_node(node, wait=False)

    return _away(away, stop, go)


def _away(
    seconds: float, stop: Callable[[LocalBroker], Awaitable[None]], go: Callable[[LocalBroker], Awaitable[None]]
) -> Disturbance:
    """Half of the log as fast as it goes, then the outage, with workers still busy and the rest waiting to be sent."""

    async def disturb(run: Run) -> None:
        broker = _broker(run)
        await run.send(run.messages // 2)
        await stop(broker)
        rest = asyncio.create_task(run.send())
        try:
            await asyncio.sleep(seconds)
        finally:
            await go(broker)
        run.events += 1
        await rest

    return disturb


def _broker(run: Run) -> LocalBroker:
    if run.broker is None:
        raise ValueError("brokers that are not ours cannot be disturbed")
    return run.broker
