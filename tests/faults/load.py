"""Load on a worker while something breaks, and the figures afterwards."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.real_services.comparison import FaultReport, all_arrived, compare, watched, with_recovery
from tests.real_services.kafka_publisher import KafkaPublisher, start_group_at_end
from tests.real_services.packet_plan import Mixture, NumberedPacket, Sender, plan_packets
from tests.real_services.packet_publisher import MqttPublisher
from tests.real_services.sites import rows, seed_fleet
from tests.real_services.waiting import until
from tests.real_services.worker_process import WorkerProcess

FULL = os.environ.get("FAULTS") == "full"
RATE = 4_000
"""Packets per second of the publisher: enough to be in the middle of something, and to see the worker come back to it."""
_FIRST = 3 * RATE
"""Packets before the fault, at most."""
PARTITIONS = 4
DEVICES = 50

full_only = pytest.mark.skipif(not FULL, reason="only in the full form, FAULTS=full")

Fault = Callable[[], Awaitable[float]]
"""Breaks and mends something; gives the moment (of `time.monotonic`) from which the worker could work again."""


def sized(short: int, full: int) -> int:
    """A size of the form that runs."""
    return full if FULL else short


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

        await until(more, "a worker stores", timeout_s=30)

    def end_workers(self) -> None:
        """Kill what still runs."""
        for worker in self.workers:
            if worker.running:
                worker.kill9()


async def mqtt_load(
    stack: Stack, name: str, port: int, packets: Sequence[NumberedPacket], fault: Fault, *, rate: float | None = RATE
) -> FaultReport:
    """Publish over MQTT, let the fault happen in the middle, wait until everything confirmed is stored, compare."""
    publisher = MqttPublisher(port, packets, rate=rate).start()
    try:
        async with watched(stack.database_url) as progress:
            await until(lambda: publisher.confirmed_count > min(0.3 * len(packets), _FIRST), "load", timeout_s=120)
            began = time.monotonic()
            ended = await fault()
            await publisher.finished(sized(60, 900))
            await all_arrived(stack.database_url, publisher.confirmed)
    finally:
        publisher.stop()
    return with_recovery(await compare(stack.database_url, name, packets, publisher.confirmed), progress, began, ended)


async def kafka_load(
    stack: Stack, name: str, bootstrap_servers: str, packets: Sequence[NumberedPacket], fault: Fault, *, rate: float | None = RATE
) -> FaultReport:
    """The same over Kafka."""
    publisher = KafkaPublisher(bootstrap_servers, packets, rate=rate)
    publishing = asyncio.create_task(publisher.run())
    try:
        async with watched(stack.database_url) as progress:
            await until(lambda: publisher.confirmed_count > min(0.3 * len(packets), _FIRST), "load", timeout_s=120)
            began = time.monotonic()
            ended = await fault()
            async with asyncio.timeout(sized(60, 900)):
                await publishing
            await all_arrived(stack.database_url, publisher.confirmed)
    finally:
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
    return with_recovery(await compare(stack.database_url, name, packets, publisher.confirmed), progress, began, ended)
