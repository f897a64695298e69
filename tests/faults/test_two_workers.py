"""Two workers: on Kafka they share the work, on MQTT one stands by; when one dies the other one has it all."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import partial

from deploy.dev.embedded_kafka import EmbeddedKafka
from tests.faults.load import FULL, RATE, Stack, came_back, kafka_load, mqtt_load, sized
from tests.real_services.comparison import FaultReport
from tests.real_services.sites import rows
from tests.real_services.waiting import until
from tests.real_services.worker_process import WorkerProcess

from operator_cli.embedded_mosquitto import EmbeddedMosquitto

Note = Callable[[FaultReport], FaultReport]

_DEATHS = sized(1, 10)
_MQTT_BACK_S = 5.0
_KAFKA_BACK_S = 15.0


async def _has_taken(worker: WorkerProcess) -> bool:
    _, metrics = await worker.get("/metrics")
    return any(float(count) > 0 for count in re.findall(r"^depotgrid_packets_total\{.*\} (\S+)$", metrics, re.MULTILINE))


async def test_two_workers_share_a_kafka_group_and_one_takes_over_when_the_other_dies(
    stack: Stack, kafka: EmbeddedKafka, note: Note
) -> None:
    await stack.begin_kafka(kafka.bootstrap_servers)
    first, second = (stack.worker(kafka=kafka.bootstrap_servers) for _ in range(2))

    async def die() -> float:
        nonlocal first, second
        died = 0.0
        for number in range(_DEATHS):
            await until(partial(_has_taken, first), "the first worker has partitions", timeout_s=60)
            await until(partial(_has_taken, second), "the second worker has partitions", timeout_s=60)
            first.kill9()
            died = time.monotonic()
            if number < _DEATHS - 1:
                first, second = second, stack.worker(kafka=kafka.bootstrap_servers)
        return died

    packets = stack.plan(sized(60_000, 500_000))
    name = f"one of two workers kill -9 ×{_DEATHS}, Kafka"
    report = note(await kafka_load(stack, name, kafka.bootstrap_servers, packets, die, rate=sized(RATE, 2_000)))
    assert report.flawless, report.row()
    assert came_back(report, _KAFKA_BACK_S), report.row()


async def test_a_standby_takes_the_mqtt_session_over_within_5_s_of_the_holders_death(
    stack: Stack, own_mosquitto: EmbeddedMosquitto, note: Note
) -> None:
    holder = stack.worker(mqtt_url=own_mosquitto.url())
    await holder.consuming_mqtt()
    standby = stack.worker(mqtt_url=own_mosquitto.url())
    await standby.says("configuration loaded")
    await until(lambda: _is_ready(standby), "the standby is ready")
    assert not standby.entries("consuming MQTT")
    took_s: list[float] = []

    async def die() -> float:
        nonlocal holder, standby
        died = 0.0
        for number in range(_DEATHS):
            holder.kill9()
            died = time.monotonic()
            await stack.stores()
            took_s.append(time.monotonic() - died)
            if number < _DEATHS - 1:
                holder, standby = standby, stack.worker(mqtt_url=own_mosquitto.url())
                await standby.says("configuration loaded")
        return died

    packets = stack.plan(sized(20_000, 300_000))
    report = note(await mqtt_load(stack, f"holder of two workers kill -9 ×{_DEATHS}, MQTT", own_mosquitto.port, packets, die))
    assert report.flawless, report.row()
    said = [(entry["timestamp"], entry["body"]) for worker in stack.workers for entry in worker.entries("MQTT")]
    # Like the other rates and times, judged in the form that has the machine to itself.
    assert not FULL or max(took_s) <= _MQTT_BACK_S, (took_s, said)
    assert came_back(report, _MQTT_BACK_S), report.row()


async def test_a_holder_that_is_stopped_gives_the_mqtt_session_to_the_standby_at_once(
    stack: Stack, own_mosquitto: EmbeddedMosquitto
) -> None:
    holder = stack.worker(mqtt_url=own_mosquitto.url())
    await holder.consuming_mqtt()
    standby = stack.worker(mqtt_url=own_mosquitto.url())
    await standby.says("configuration loaded")
    ((before,),) = await rows(stack.database_url, "SELECT holder FROM lease WHERE lease_name LIKE 'mqtt/%'")
    holder.child.terminate()
    assert await holder.exit_status() == 0
    # It has given the lease back, so that nobody waits until it runs out.
    assert await rows(stack.database_url, "SELECT FROM lease WHERE holder = $1", before) == []
    await standby.consuming_mqtt()


async def _is_ready(worker: WorkerProcess) -> bool:
    return (await worker.get("/readyz"))[0] == 200
