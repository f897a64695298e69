"""The relay's wiring: settings in; a relay for each broker that is configured, one that listens, one that prunes, and probes.

Stop (SIGTERM): begin nothing else, have what is in hand confirmed, give the shares back, within 5 s; a second signal leaves at
once, which costs nothing but repetitions.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog
import uuid_utils
from prometheus_client import CollectorRegistry

from broker_sessions.kafka_publisher import KafkaPublisher
from broker_sessions.kafka_reach import KafkaReach
from broker_sessions.mqtt_publisher import MqttPublisher
from event_relay.relay import BrokerRelay
from event_store.append import EVENT_CHANNEL
from event_store.database import UNREACHABLE, DatabaseFault, Pool, connect, open_pool
from event_store.outbox import prune_outbox
from service_runtime.health import health_app, serve
from service_runtime.metrics import RelayMetrics
from service_runtime.process import run_process
from service_runtime.settings import Need, Settings

SERVICE = "depotgrid-relay"
_DRAIN_S = 1.5
_LAST_LOOK_S = 1.0
_RETRY_S = 1.0
_LISTENING_CHECK_S = 5.0
_PRUNING_S = 10.0
_PRUNING_PAUSE_S = 0.05
_PRUNED_AT_ONCE = 2_000

log = structlog.get_logger("event_relay")


class Relay:
    """All relays of one process; `run` is its life."""

    def __init__(self, settings: Settings, pool: Pool, metrics: RelayMetrics, stop: asyncio.Event) -> None:
        self._settings = settings
        self._pool = pool
        self._stopping = stop
        name = f"{socket.gethostname()}/{os.getpid()}/{uuid_utils.uuid7()}"
        self._relays: list[BrokerRelay] = []
        self._kafka_reach: KafkaReach | None = None
        if settings.mqtt_url is not None:
            publisher = MqttPublisher(settings.mqtt_url, f"depotgrid-relay-{uuid_utils.uuid7()}")
            self._relays.append(BrokerRelay("mqtt", publisher, pool, name, metrics, _now))
        if settings.kafka_bootstrap_servers is not None:
            kafka = KafkaPublisher(settings.kafka_bootstrap_servers, "depotgrid-relay")
            self._relays.append(BrokerRelay("kafka", kafka, pool, name, metrics, _now))
            self._kafka_reach = KafkaReach(settings.kafka_bootstrap_servers, "depotgrid-relay-reach")

    async def readiness(self) -> Sequence[str]:
        """Why events are not published; a relay whose shares others hold is ready."""
        reasons = [trouble for relay in self._relays if (trouble := self._trouble_of(relay)) is not None]
        limit_s = self._settings.unacknowledged_age_limit_s
        stuck = [(relay.broker, relay.stuck_s()) for relay in self._relays if relay.stuck_s() > limit_s]
        return [*reasons, *(f"{broker} has confirmed nothing for {stuck_s:.0f} s" for broker, stuck_s in stuck)]

    def _trouble_of(self, relay: BrokerRelay) -> str | None:
        # A producer that has nothing to send does not notice that Kafka is away.
        unreached = self._kafka_reach.trouble if self._kafka_reach is not None and relay.broker == "kafka" else None
        return relay.trouble or (unreached if relay.holds_shares else None)

    async def run(self) -> None:
        """Work until `stop` is set; raises what kills a part of it."""
        relaying = [asyncio.create_task(relay.run(), name=f"relay-{relay.broker}") for relay in self._relays]
        others = [asyncio.create_task(self._listen(), name="listen"), asyncio.create_task(self._prune(), name="prune")]
        if self._kafka_reach is not None:
            others.append(asyncio.create_task(self._kafka_reach.run(), name="kafka-reach"))
        stopping = asyncio.create_task(self._wait_for_stop())
        try:
            await asyncio.wait({*relaying, *others, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                log.info("stopping: finishing what is in hand")
                for relay in self._relays:
                    relay.stop()
                await asyncio.wait(relaying, timeout=_DRAIN_S)
            for task in (*relaying, *others):
                if task.done():
                    task.result()
        finally:
            for task in (*relaying, *others, stopping):
                task.cancel()
            # Giving a connection back waits for a database that may say nothing any more; whoever closes the pool cuts it.
            await asyncio.wait({*relaying, *others, stopping}, timeout=_LAST_LOOK_S)

    async def _wait_for_stop(self) -> None:
        await self._stopping.wait()

    async def _listen(self) -> None:
        """Wake the relays at each transaction that has something for them. While this can not be had, they poll."""

        def woken(*_: object) -> None:
            for relay in self._relays:
                relay.wake()

        while True:
            connection = None
            try:
                connection = await connect(self._settings.database_url or "", f"{SERVICE}-listen")
                await connection.add_listener(EVENT_CHANNEL, woken)
                woken()
                while True:
                    await asyncio.sleep(_LISTENING_CHECK_S)
                    await connection.execute("SELECT 1", timeout=_LISTENING_CHECK_S)
            except UNREACHABLE as fault:
                log.warning("not listening for appends, polling", reason=str(fault) or type(fault).__name__)
                await asyncio.sleep(_RETRY_S)
            finally:
                if connection is not None:
                    connection.terminate()

    async def _prune(self) -> None:
        """Remove what every broker has, and say when something is let go that no broker got."""
        settings = self._settings
        while True:
            try:
                pruned = await prune_outbox(
                    self._pool,
                    keep_sent_s=settings.outbox_keep_sent_s,
                    keep_unsent_s=settings.outbox_keep_unsent_s,
                    limit=_PRUNED_AT_ONCE,
                )
            except UNREACHABLE as fault:
                log.warning("outbox not pruned", reason=str(fault) or type(fault).__name__)
                await asyncio.sleep(_PRUNING_S)
                continue
            if pruned.forgotten:
                log.warning("no relay has served a broker for long, nothing is kept for it any more", brokers=pruned.forgotten)
            await asyncio.sleep(_PRUNING_PAUSE_S if pruned.rows == _PRUNED_AT_ONCE else _PRUNING_S)


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - a relay owns its clock


async def _serve(settings: Settings, stop: asyncio.Event) -> None:
    registry = CollectorRegistry()
    pool = await open_pool(settings.database_url or "", SERVICE, leaves_nothing=True)
    try:
        relay = Relay(settings, pool, RelayMetrics(registry), stop)
        async with serve(health_app(registry, relay.readiness), settings.http_host, settings.http_port) as port:
            log.info("relay up", probes=f"http://{settings.http_host}:{port}/readyz")
            await relay.run()
    finally:
        pool.terminate()


def run() -> int:
    """Run until a signal; 0 after an orderly stop, 1 with one line when the start fails, 2 for wrong settings."""
    return run_process("relay", SERVICE, _serve, need=(Need.DATABASE, Need.BROKER), faults=(DatabaseFault, *UNREACHABLE))
