"""The bridge's wiring: settings in; an MQTT session, a Kafka publisher, a forwarder between them, and probes.

The session is the one that an ingest worker would hold, under the same lease: whichever of them holds it takes the packets. Stop
(SIGTERM): take no more, have confirmed what is in hand, acknowledge, disconnect, within 5 s; a second signal leaves at once, which
costs nothing but work done twice.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import structlog
import uuid_utils
from prometheus_client import CollectorRegistry

from broker_sessions.kafka_publisher import KafkaPublisher
from broker_sessions.kafka_reach import KafkaReach
from broker_sessions.mqtt_session import MqttSession, NotYetError
from event_store.database import UNREACHABLE, DatabaseFault, Pool, open_pool
from event_store.store import PostgresEventStore
from event_store.waiting_gateways import count_waiting
from microgrid.directory import SiteDirectory
from mqtt_bridge.forwarding import Forwarder, Taken
from sensor_packet.packet import ClaimedIdentity
from sensor_packet.topics import MQTT_PACKET_FILTER, parse_mqtt_packet_topic
from service_runtime.health import health_app, serve
from service_runtime.metrics import BridgeMetrics
from service_runtime.process import run_process
from service_runtime.settings import Need, Settings
from service_runtime.tracing import parse_traceparent
from site_operations.ingest import Ingest, RawPacket
from site_registry.find_depot import depot_of

SERVICE = "depotgrid-bridge"
_DRAIN_S = 1.5
_LAST_LOOK_S = 0.5

log = structlog.get_logger("mqtt_bridge")


class Bridge:
    """One bridge; `run` is its life."""

    def __init__(self, settings: Settings, pool: Pool, metrics: BridgeMetrics, stop: asyncio.Event) -> None:
        self._settings = settings
        self._pool = pool
        # It only refuses what no directory is needed to refuse.
        self._ingest = Ingest(PostgresEventStore(pool), SiteDirectory(), _now)
        self._publisher = KafkaPublisher(settings.kafka_bootstrap_servers or "", SERVICE)
        self._kafka_reach = KafkaReach(settings.kafka_bootstrap_servers or "", f"{SERVICE}-reach")
        self._forwarder = Forwarder(
            self._publisher,
            self._refuse,
            metrics,
            _now,
            batch_max=settings.batch_max,
            max_packets=settings.in_hand_max_packets,
            max_bytes=settings.in_hand_max_bytes,
        )
        self._session = MqttSession(
            settings.mqtt_url or "",
            settings.mqtt_client_id,
            settings.mqtt_session_expiry_s,
            MQTT_PACKET_FILTER,
            self._forwarder.take,
            pool,
            f"{socket.gethostname()}/{os.getpid()}/{uuid_utils.uuid7()}",
            taken_over=self._see_that_nobody_waits,
        )
        self._forwarder.take_from(self._session)
        self._kafka_found = asyncio.Event()
        self._stopping = stop

    async def _see_that_nobody_waits(self) -> None:
        """Leave the session to a worker while packets wait on detours that only a worker reads: newer ones would pass them."""
        waiting = await count_waiting(self._pool, self._session.lease_name)
        if waiting:
            raise NotYetError(f"{waiting} gateways are above their limit; let a worker with MQTT run until none is")

    async def readiness(self) -> Sequence[str]:
        """Why no progress is made; a standby that could take over is ready."""
        # A producer that has nothing to send does not notice that Kafka is away.
        kafka_trouble = self._forwarder.trouble or self._kafka_reach.trouble
        reasons = [trouble for trouble in (kafka_trouble, self._session.trouble) if trouble is not None]
        age_s = self._forwarder.unacknowledged_age_s()
        if age_s > self._settings.unacknowledged_age_limit_s:
            reasons.append(f"the oldest packet in hand waits since {age_s:.0f} s")
        return reasons

    async def run(self) -> None:
        """Work until `stop` is set; raises what kills a part of it."""
        working = [
            asyncio.create_task(self._take_packets(), name="session"),
            asyncio.create_task(self._forwarder.run(), name="forwarder"),
            asyncio.create_task(self._watch_kafka(), name="kafka-reach"),
        ]
        stopping = asyncio.create_task(self._wait_for_stop())
        try:
            await asyncio.wait({*working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for task in working:
                if task.done():
                    task.result()
            log.info("stopping: forwarding what is in hand")
            self._session.stop_taking()
            try:
                async with asyncio.timeout(_DRAIN_S):
                    await self._forwarder.wait_until_idle()
            except TimeoutError:
                log.warning("not all in hand could be forwarded; MQTT sends the rest again")
        finally:
            await self._session.close()
            for task in (*working, stopping):
                task.cancel()
            # Giving a connection back waits for a database that may say nothing any more; whoever closes the pool cuts it.
            await asyncio.wait({*working, stopping}, timeout=_LAST_LOOK_S)
            await self._publisher.close()

    async def _take_packets(self) -> None:
        # Without Kafka the packets are better off in their own broker.
        await self._forwarder.open()
        self._kafka_found.set()
        await self._session.run()

    async def _watch_kafka(self) -> None:
        await self._kafka_found.wait()
        await self._kafka_reach.run()

    async def _wait_for_stop(self) -> None:
        await self._stopping.wait()

    async def _refuse(self, packet: Taken) -> None:
        """Keep a packet that is too large as the worker would: a dead letter under what its topic claims."""
        trace = parse_traceparent(packet.headers.get("traceparent"))
        raw = RawPacket(
            body=packet.body,
            source="mqtt",
            topic=packet.topic,
            claimed=parse_mqtt_packet_topic(packet.topic) or ClaimedIdentity("", ""),
            received_at=packet.received_at,
            headers=packet.headers,
            trace_id=trace.trace_id if trace is not None else None,
        )
        prepared = self._ingest.prepare(raw)
        if prepared.letter is None:
            raise AssertionError("a packet above the limit is always refused")
        if prepared.letter.device_id is not None:
            async with self._pool.acquire(timeout=5) as connection:
                depot_id = await depot_of(connection, "device", prepared.letter.device_id)
            letter = msgspec.structs.replace(prepared.letter, depot_id=depot_id)
            prepared = msgspec.structs.replace(prepared, letter=letter, depot_id=depot_id)
        await self._ingest.store([prepared])


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - a bridge owns its clock


async def _serve(settings: Settings, stop: asyncio.Event) -> None:
    registry = CollectorRegistry()
    pool = await open_pool(settings.database_url or "", SERVICE, max_size=4)
    try:
        bridge = Bridge(settings, pool, BridgeMetrics(registry), stop)
        async with serve(health_app(registry, bridge.readiness), settings.http_host, settings.http_port) as port:
            log.info("bridge up", probes=f"http://{settings.http_host}:{port}/readyz")
            await bridge.run()
    finally:
        pool.terminate()


def run() -> int:
    """Run until a signal; 0 after an orderly stop, 1 with one line when the start fails, 2 for wrong settings."""
    return run_process("bridge", SERVICE, _serve, need=(Need.DATABASE, Need.MQTT, Need.KAFKA), faults=(DatabaseFault, *UNREACHABLE))
