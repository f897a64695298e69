"""A worker that dies or is stopped in the middle of its work loses nothing and does nothing twice."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable

from deploy.dev.embedded_kafka import EmbeddedKafka
from tests.faults.load import RATE, MakeStack, Stack, came_back, full_only, kafka_load, kafka_load_of_groups, mqtt_load, sized
from tests.real_services.comparison import FaultReport

from operator_cli.embedded_mosquitto import EmbeddedMosquitto

Note = Callable[[FaultReport], FaultReport]

_DEATHS = sized(2, 50)
_GROUPS = 5
_STOPS = sized(1, 10)
_BACK_S = 5.0
_KAFKA_BACK_S = 15.0


async def test_a_worker_killed_at_random_moments_loses_no_mqtt_packet(
    stack: Stack, own_mosquitto: EmbeddedMosquitto, note: Note
) -> None:
    worker = stack.worker(mqtt_url=own_mosquitto.url())
    await worker.consuming_mqtt()
    chance = random.Random(7)

    async def die() -> float:
        nonlocal worker
        died = 0.0
        for _ in range(_DEATHS):
            await asyncio.sleep(chance.uniform(0, 0.5))
            worker.kill9()
            died = time.monotonic()
            worker = stack.worker(mqtt_url=own_mosquitto.url())
            await stack.stores()
        return died

    name, packets = f"worker kill -9 ×{_DEATHS}, MQTT", stack.plan(sized(30_000, 500_000))
    report = note(await mqtt_load(stack, name, own_mosquitto.port, packets, die, rate=sized(RATE, 1_500)))
    assert report.flawless, report.row()
    assert came_back(report, _BACK_S), report.row()


@full_only  # in the short form the death of one of two workers stands for it
async def test_workers_killed_at_random_moments_lose_no_kafka_record(
    stack: Stack, another_stack: MakeStack, kafka: EmbeddedKafka, note: Note
) -> None:
    # A group takes 10 s to notice a death, so several groups of one worker each read all and die beside one another.
    stacks = [stack, *[await another_stack() for _ in range(_GROUPS - 1)]]
    for one in stacks:
        await one.begin_kafka(kafka.bootstrap_servers)
        one.worker(kafka=kafka.bootstrap_servers)

    async def die_again_and_again(one: Stack, chance: random.Random) -> None:
        for _ in range(_DEATHS // _GROUPS - 1):
            await asyncio.sleep(chance.uniform(0, 0.5))
            one.workers[-1].kill9()
            one.worker(kafka=kafka.bootstrap_servers)
            await one.stores()

    async def die() -> float:
        await asyncio.gather(*[die_again_and_again(one, random.Random(number)) for number, one in enumerate(stacks)])
        for one in stacks:
            one.workers[-1].kill9()
        died = time.monotonic()
        for one in stacks:
            one.worker(kafka=kafka.bootstrap_servers)
        return died

    name = f"worker kill -9 ×{_DEATHS}, Kafka"
    reports = await kafka_load_of_groups(stacks, name, kafka.bootstrap_servers, stack.plan(300_000), die, rate=1_000)
    report = note(FaultReport.together(name, reports))
    assert report.flawless, [one.row() for one in reports]
    assert came_back(report, _KAFKA_BACK_S), [one.row() for one in reports]


async def test_a_worker_stopped_under_mqtt_load_ends_within_5_s_and_loses_nothing(
    stack: Stack, own_mosquitto: EmbeddedMosquitto, note: Note
) -> None:
    worker = stack.worker(mqtt_url=own_mosquitto.url())
    await worker.consuming_mqtt()

    async def stop() -> float:
        nonlocal worker
        for _ in range(_STOPS):
            worker.send(signal.SIGTERM)
            assert await worker.exit_status() == 0, worker.log()
            worker = stack.worker(mqtt_url=own_mosquitto.url())
            await worker.consuming_mqtt()
        return time.monotonic()

    report = note(
        await mqtt_load(stack, f"worker SIGTERM ×{_STOPS}, MQTT", own_mosquitto.port, stack.plan(sized(20_000, 150_000)), stop)
    )
    assert report.flawless, report.row()


async def test_a_worker_stopped_under_kafka_load_ends_within_5_s_and_loses_nothing(
    stack: Stack, kafka: EmbeddedKafka, note: Note
) -> None:
    await stack.begin_kafka(kafka.bootstrap_servers)
    worker = stack.worker(kafka=kafka.bootstrap_servers)

    async def stop() -> float:
        nonlocal worker
        for _ in range(_STOPS):
            worker.send(signal.SIGTERM)
            assert await worker.exit_status() == 0, worker.log()
            worker = stack.worker(kafka=kafka.bootstrap_servers)
            await stack.stores()
        return time.monotonic()

    report = note(
        await kafka_load(
            stack, f"worker SIGTERM ×{_STOPS}, Kafka", kafka.bootstrap_servers, stack.plan(sized(20_000, 150_000)), stop
        )
    )
    assert report.flawless, report.row()


async def test_a_second_sigterm_ends_a_worker_at_once(stack: Stack, own_mosquitto: EmbeddedMosquitto) -> None:
    worker = stack.worker(mqtt_url=own_mosquitto.url())
    await worker.consuming_mqtt()
    worker.send(signal.SIGTERM)
    worker.send(signal.SIGTERM)
    await worker.exit_status()
