"""Load on a worker while something breaks, and the figures afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pytest
from tests.real_services.comparison import FaultReport, all_arrived, compare, watched
from tests.real_services.kafka_publisher import KafkaPublisher, start_group_at_end
from tests.real_services.packet_plan import Mixture, NumberedPacket, Sender, plan_packets
from tests.real_services.packet_publisher import MqttPublisher
from tests.real_services.sites import rows, seed_fleet
from tests.real_services.waiting import until
from tests.real_services.worker_process import WorkerProcess

FULL = os.environ.get("FAULTS") == "full"


def sized(short: int, full: int) -> int:
    """A size of the form that runs."""
    return full if FULL else short


RATE = 4_000
"""Packets per second of the publisher: enough to be in the middle of something, and to see the worker come back to it."""
_FIRST = 3 * RATE
"""Packets before the fault, at most."""
_BEHIND = 2 * RATE
"""Packets after the workers are back, in the full form."""
_SLOW_FROM = 0.7
"""Share of the packets after which publishers go slowly until the fault is over, in the short form: the rest is load for as long as
a slow machine takes over a fault. The full form has packets enough, and its rates are judged."""
_FINISH_S = sized(180, 900)
_ARRIVAL_S = sized(180, 60)
_WATCHED_S = 30.0
"""Seconds after a fault for which a worker is given load to come back under."""
_LOGS_SHOWN, _LOG_END = 3, 4_000
PARTITIONS = 4
DEVICES = 50

full_only = pytest.mark.skipif(not FULL, reason="only in the full form, FAULTS=full")

Fault = Callable[[], Awaitable[float]]
"""Breaks and mends something; gives the moment (of `time.monotonic`) from which the worker could work again."""


def came_back(report: FaultReport, bound_s: float) -> bool:
    """Whether the worker was back at 90 % of its rate in time. Judged in the full form only, which has the machine to itself."""
    return not FULL or (report.recovered_s is not None and report.recovered_s <= bound_s)


@dataclass
class Stack:
    """One database with a fleet in it, and the workers on it."""

    database_url: str
    folder: Path
    senders: Sequence[Sender]
    workers: list[WorkerProcess] = field(default_factory=list[WorkerProcess])

    @staticmethod
    async def make(database_url: str, folder: Path) -> Stack:
        """A stack with its fleet configured."""
        return Stack(database_url, folder, await seed_fleet(database_url, DEVICES))

    def plan(self, count: int, *, seed: int = 1, mixture: Mixture | None = None) -> list[NumberedPacket]:
        """Packets of the fleet, as from now."""
        return plan_packets(self.senders, count, datetime.now(UTC), seed=seed, mixture=mixture or Mixture())

    def worker(
        self, *, module: str = "ingest_worker", mqtt_url: str | None = None, kafka: str | None = None, **settings: object
    ) -> WorkerProcess:
        """Start a worker or another service, which ends with the test."""
        made = WorkerProcess(
            self.folder,
            self.database_url,
            module=module,
            mqtt_url=mqtt_url,
            kafka=kafka,
            kafka_group_id=self.group_id,
            **settings,
        )
        self.workers.append(made)
        return made.start()

    @property
    def group_id(self) -> str:
        """The Kafka group of this test's workers."""
        return f"group-{self.database_url.rpartition('/')[2]}"

    async def begin_kafka(self, bootstrap_servers: str) -> None:
        """Let this test's group begin behind what other tests published."""
        await start_group_at_end(bootstrap_servers, self.group_id, PARTITIONS)

    async def stores(self) -> None:
        """Wait until more is stored than now."""

        async def last() -> int:
            newest = "SELECT global_position FROM event_store ORDER BY transaction_id DESC, global_position DESC LIMIT 1"
            found = await rows(self.database_url, newest)
            return int(found[0][0]) if found else 0

        before = await last()

        async def more() -> bool:
            return await last() > before

        await until(more, "a worker stores", timeout_s=60)

    def end_workers(self) -> None:
        """Kill what still runs, and print the end of what each said: pytest shows it for a test that failed."""
        for worker in self.workers:
            if worker.running:
                worker.kill9()
        for worker in self.workers[-_LOGS_SHOWN:]:
            print(f"--- {worker.log_file.name}\n{worker.log()[-_LOG_END:]}")


MakeStack = Callable[[], Awaitable[Stack]]
"""Makes another database with a fleet, beside that of the test."""


class _Publisher(Protocol):
    confirmed_count: int

    @property
    def confirmed(self) -> list[NumberedPacket]: ...
    @property
    def sent(self) -> Sequence[NumberedPacket]: ...
    def hurry(self) -> None: ...
    def begin_no_more(self) -> None: ...


async def mqtt_load(
    stack: Stack, name: str, port: int, packets: Sequence[NumberedPacket], fault: Fault, *, rate: float | None = RATE
) -> FaultReport:
    """Publish over MQTT, let the fault happen in the middle, wait until everything confirmed is stored, compare."""
    publisher = MqttPublisher(port, packets, rate=rate, slow_from=_slow_from(packets)).start()
    try:
        (report,) = await _through([stack], name, publisher, lambda: publisher.finished(_FINISH_S), fault, len(packets), rate)
    finally:
        publisher.stop()
    return report


async def kafka_load(
    stack: Stack, name: str, bootstrap_servers: str, packets: Sequence[NumberedPacket], fault: Fault, *, rate: float | None = RATE
) -> FaultReport:
    """The same over Kafka."""
    (report,) = await kafka_load_of_groups([stack], name, bootstrap_servers, packets, fault, rate=rate)
    return report


async def kafka_load_of_groups(
    stacks: Sequence[Stack],
    name: str,
    bootstrap_servers: str,
    packets: Sequence[NumberedPacket],
    fault: Fault,
    *,
    rate: float | None = RATE,
) -> list[FaultReport]:
    """The same for several groups of workers, each of which reads all and has a database of its own."""
    publisher = KafkaPublisher(bootstrap_servers, packets, rate=rate, slow_from=_slow_from(packets))
    publishing = asyncio.create_task(publisher.run())

    async def finished() -> None:
        async with asyncio.timeout(_FINISH_S):
            await publishing

    try:
        return await _through(stacks, name, publisher, finished, fault, len(packets), rate)
    finally:
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)


def _slow_from(packets: Sequence[NumberedPacket]) -> int | None:
    return None if FULL else int(_SLOW_FROM * len(packets))


async def _load_is_back(publisher: _Publisher, planned: int) -> float:
    """When the broker confirms to the publisher again: before that there is nothing that a worker could come back to."""
    before = publisher.confirmed_count
    await until(lambda: publisher.confirmed_count >= min(before + 1, planned), "the publisher gets through", timeout_s=60)
    return time.monotonic()


async def _through(
    stacks: Sequence[Stack],
    name: str,
    publisher: _Publisher,
    finished: Callable[[], Awaitable[None]],
    fault: Fault,
    planned: int,
    rate: float | None,
) -> list[FaultReport]:
    async with contextlib.AsyncExitStack() as watching:
        progress = [await watching.enter_async_context(watched(stack.database_url)) for stack in stacks]
        await until(lambda: publisher.confirmed_count > min(0.3 * planned, _FIRST), "load", timeout_s=120)
        began = time.monotonic()
        # A worker that was just catching up was faster than what comes in, which is all that it can come back to.
        usual = [min(one.rate_before(began), rate or math.inf) for one in progress]
        ended = await fault()
        publisher.hurry()
        ended = max(ended, await _load_is_back(publisher, planned))

        def back() -> list[float | None]:
            return [one.recovered_s(ended, before) for one, before in zip(progress, usual, strict=True)]

        if FULL:
            # What was planned is more than enough; what matters is load until all are back, and some behind that.
            with contextlib.suppress(AssertionError):
                await until(lambda: None not in back(), "the workers are back at their rate", timeout_s=_WATCHED_S)
            enough = min(publisher.confirmed_count + _BEHIND, planned)
            await until(lambda: publisher.confirmed_count >= enough, "load behind the fault", timeout_s=120)
            publisher.begin_no_more()
        await finished()
        for stack in stacks:
            await all_arrived(stack.database_url, publisher.confirmed, timeout_s=_ARRIVAL_S)
    return [
        replace(await compare(stack.database_url, name, publisher.sent, publisher.confirmed), recovered_s=recovered_s)
        for stack, recovered_s in zip(stacks, back(), strict=True)
    ]


class SharedFault:
    """One fault under several loads at once: happens when all of them are under way, and ends for all at the same moment."""

    def __init__(self, loads: int, fault: Fault) -> None:
        self._begin = asyncio.Barrier(loads)
        self._done = asyncio.Barrier(loads)
        self._fault = fault
        self._ended = 0.0

    async def __call__(self) -> float:
        if await self._begin.wait() == 0:
            self._ended = await self._fault()
        await self._done.wait()
        return self._ended
