"""Relays that die and brokers that go away: every event reaches both brokers, and each stream in order as it is first seen."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise

from deploy.dev.embedded_kafka import EmbeddedKafka
from tests.event_store.stores import event
from tests.faults.load import Stack, full_only, sized
from tests.real_services.comparison import FaultReport
from tests.real_services.subscriber import KafkaSubscriber, MqttSubscriber, Received
from tests.real_services.waiting import until

from event_store.database import open_pool
from event_store.store import PostgresEventStore
from operator_cli.embedded_mosquitto import EmbeddedMosquitto
from operator_cli.embedded_postgres import EmbeddedPostgres
from sensor_packet.topics import KAFKA_DOMAIN_EVENT_TOPIC, MQTT_DOMAIN_EVENT_FILTER

Note = Callable[[FaultReport], FaultReport]
Fault = Callable[[], Awaitable[None]]

_WRITERS = 4
_DEPOTS_EACH = 4
_SLOWLY_S = 0.2
_ARRIVAL_S = sized(120, 300)


class Load:
    """Numbered events of many depots from a few writers at once, and what became of them.

    The second half is written slowly until `hurry`, so that there is load for as long as the fault takes.
    """

    def __init__(self, stack: Stack, rounds: int) -> None:
        self._stack = stack
        self._rounds = rounds
        self._prefix = stack.folder.name
        self.hurry = asyncio.Event()
        self.appended = 0
        self.total = _WRITERS * _DEPOTS_EACH * rounds

    async def run(self) -> None:
        """Append everything, pausing a little between transactions."""
        pool = await open_pool(self._stack.database_url, "load")
        try:
            await asyncio.gather(*(self._write(PostgresEventStore(pool), writer) for writer in range(_WRITERS)))
        finally:
            await pool.close()

    async def _write(self, store: PostgresEventStore, writer: int) -> None:
        chance = random.Random(writer)
        for number in range(self._rounds):
            await store.append(
                [
                    event(
                        (writer * 10 + one) * 1_000_000 + number, depot_id=f"{self._prefix}.{writer}.{one}", payload={"n": number}
                    )
                    for one in range(_DEPOTS_EACH)
                ]
            )
            self.appended += _DEPOTS_EACH
            await asyncio.sleep(chance.uniform(0, 0.004))
            if number >= self._rounds // 2 and not self.hurry.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.hurry.wait(), _SLOWLY_S)

    def seen(self, received: Sequence[Received]) -> dict[str, list[int]]:
        """Numbers by depot as they were first seen; what came twice under one id is left out."""
        ids: set[str] = set()
        by_depot: dict[str, list[int]] = {}
        for message in list(received):
            body = json.loads(message.body)
            if body["depot_id"].startswith(f"{self._prefix}.") and body["event_id"] not in ids:
                ids.add(body["event_id"])
                by_depot.setdefault(body["depot_id"], []).append(body["payload"]["n"])
        return by_depot

    def report(self, name: str, received: Sequence[Received]) -> FaultReport:
        """The figures: `confirmed` were appended, `stored` were published, `duplicates` are numbers that came under several ids."""
        seen = self.seen(received)
        distinct = sum(len(set(numbers)) for numbers in seen.values())
        return FaultReport(
            fault=name,
            confirmed=self.appended,
            stored=distinct,
            dead_letters=0,
            lost=self.appended - distinct,
            duplicates=sum(len(numbers) - len(set(numbers)) for numbers in seen.values()),
            inversions=sum(later < earlier for numbers in seen.values() for earlier, later in pairwise(numbers)),
            dead_letters_wrong=0,
        )


async def _relayed_through(
    stack: Stack, name: str, mosquitto: EmbeddedMosquitto, kafka: EmbeddedKafka, fault: Fault, note: Note, rounds: int
) -> None:
    load = Load(stack, rounds)
    with MqttSubscriber(mosquitto.port, MQTT_DOMAIN_EVENT_FILTER) as mqtt:
        async with KafkaSubscriber(kafka.bootstrap_servers, KAFKA_DOMAIN_EVENT_TOPIC) as on_kafka:
            writing = asyncio.create_task(load.run())
            await until(lambda: load.appended > load.total * 0.2, "load", timeout_s=120)
            await fault()
            load.hurry.set()
            await writing
            for received in (mqtt.messages, on_kafka.messages):
                await until(
                    lambda received=received: sum(map(len, load.seen(received).values())) >= load.total,
                    "everything is published",
                    timeout_s=_ARRIVAL_S,
                )
    for broker, received in (("MQTT", mqtt.messages), ("Kafka", on_kafka.messages)):
        report = note(load.report(f"{name}, {broker}", received))
        assert report.flawless, report.row()


async def test_two_relays_one_of_which_dies_again_and_again_lose_nothing_and_keep_every_stream_in_order(
    stack: Stack, own_mosquitto: EmbeddedMosquitto, kafka: EmbeddedKafka, note: Note
) -> None:
    deaths = sized(2, 10)
    brokers = {"mqtt_url": own_mosquitto.url(), "kafka": kafka.bootstrap_servers}
    relays = [stack.worker(module="event_relay", **brokers) for _ in range(2)]
    for relay in relays:
        await relay.says("shares held")

    async def die() -> None:
        for number in range(deaths):
            relays[number % 2].kill9()
            relays[number % 2] = stack.worker(module="event_relay", **brokers)
            await relays[number % 2].says("shares held")

    await _relayed_through(stack, f"one of two relays kill -9 ×{deaths}", own_mosquitto, kafka, die, note, sized(400, 3_000))


async def test_a_broker_that_is_restarted_gets_every_event_in_order_and_holds_up_no_other(
    stack: Stack, own_mosquitto: EmbeddedMosquitto, kafka: EmbeddedKafka, note: Note
) -> None:
    relay = stack.worker(module="event_relay", mqtt_url=own_mosquitto.url(), kafka=kafka.bootstrap_servers)
    await relay.says("shares held")

    async def restart() -> None:
        await asyncio.to_thread(own_mosquitto.stop)
        await relay.says("nothing can be published")
        await asyncio.to_thread(own_mosquitto.start)

    await _relayed_through(stack, "Mosquitto restarted under a relay", own_mosquitto, kafka, restart, note, sized(300, 1_500))
    assert relay.running


@full_only
async def test_a_kafka_that_is_killed_and_started_again_gets_every_event_in_order(
    stack: Stack, own_mosquitto: EmbeddedMosquitto, own_kafka: EmbeddedKafka, note: Note
) -> None:
    own_kafka.start()
    relay = stack.worker(module="event_relay", mqtt_url=own_mosquitto.url(), kafka=own_kafka.bootstrap_servers)
    await relay.says("shares held")

    async def restart() -> None:
        own_kafka.kill9()
        await relay.says("nothing can be published")
        await asyncio.to_thread(own_kafka.start)

    await _relayed_through(stack, "Kafka kill -9 under a relay", own_mosquitto, own_kafka, restart, note, 1_500)
    assert relay.running


async def test_a_relay_stops_in_time_while_the_database_is_gone(
    stack: Stack, own_postgres: EmbeddedPostgres, own_mosquitto: EmbeddedMosquitto
) -> None:
    relay = stack.worker(module="event_relay", mqtt_url=own_mosquitto.url())
    await relay.says("shares held")
    own_postgres.stop()
    await relay.says("publishing no more")
    relay.send(signal.SIGTERM)
    assert await relay.exit_status() == 0, relay.log()
