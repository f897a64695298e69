"""The ingest worker's wiring: settings in, a FastStream application with its sources behind one pipeline out.

Start: database, configuration of all sites, HTTP for probes, then the sources. Stop (SIGTERM): take no more, commit what is in
hand, acknowledge, disconnect, within 5 s; a second signal leaves at once, which costs nothing but work done twice.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime, timedelta

import structlog
import uuid_utils
import uvloop
from aiokafka.errors import KafkaError
from faststream import FastStream
from prometheus_client import CollectorRegistry

from broker_sessions.kafka_reach import KafkaReach
from event_store.database import UNREACHABLE, DatabaseFault, Pool, connect, open_pool
from event_store.letter_quota import keep_quota
from event_store.outbox import prune_outbox
from event_store.store import PostgresEventStore
from ingest_worker.batching import Pipeline
from ingest_worker.kafka_source import KafkaSource
from ingest_worker.mqtt_source import MqttSource
from ingest_worker.partition_pauses import PartitionPauses
from ingest_worker.token_bucket import GatewayLimit
from ingest_worker.waiting_room import DivertingIngest, WaitingRoom
from microgrid.directory import SiteDirectory
from service_runtime.health import ListenError, health_app, serve
from service_runtime.logs import configure_logging
from service_runtime.metrics import IngestMetrics
from service_runtime.process import leave_in_time
from service_runtime.settings import Need, Settings, load_settings
from site_operations.ingest import Ingest
from site_operations.sweep_heartbeats import sweep_heartbeats
from site_registry.change_feed import KEEP_CHANGES_S, ChangeFollower, prune_changes

log = structlog.get_logger("ingest_worker")

_SWEEP_S = 0.5
_PRUNING_S = 600.0
_OUTBOX_PRUNING_S = 60.0
_OUTBOX_PRUNING_PAUSE_S = 0.1
_OUTBOX_ROWS_AT_ONCE = 2_000
_DRAIN_S = 2.5
_LAST_LOOK_S = 0.5
_QUOTA_S = 10.0
_QUOTA_OVERLAP = timedelta(seconds=60)
_OBJECTS_BETWEEN_COLLECTIONS = 200_000
"""Packets in hand are many objects and no cycles: looking through them for some took a tenth of a worker's time."""
_RETRY_S = 1.0


class Worker:
    """One ingest worker, built from settings; `run` is its life."""

    def __init__(self, settings: Settings, pool: Pool, metrics: IngestMetrics) -> None:
        self._settings = settings
        self._pool = pool
        self._metrics = metrics
        self._store = PostgresEventStore(pool)
        self._directory = SiteDirectory()
        self._follower = ChangeFollower(self._directory)
        self._loaded = asyncio.Event()
        holder = f"{socket.gethostname()}/{os.getpid()}/{uuid_utils.uuid7()}"
        ingest = Ingest(self._store, self._directory, _now, settings.max_clock_ahead_s)
        limit = GatewayLimit.of(settings.gateway_packets_per_s, settings.gateway_burst_s)
        self._room: WaitingRoom | None = None
        diverting: DivertingIngest | None = None
        if settings.mqtt_url is not None:
            # Also without a limit: something may wait from a time when there was one.
            self._room = WaitingRoom(
                settings.mqtt_url,
                settings.mqtt_client_id,
                settings.mqtt_session_expiry_s,
                pool,
                holder,
                limit,
                metrics,
                _now,
                max_waiting_bytes=settings.gateway_waiting_max_bytes,
            )
            diverting = DivertingIngest(ingest, self._room)
        self.pipeline = Pipeline(
            diverting or ingest,
            metrics,
            batch_max=settings.batch_max,
            max_packets=settings.in_hand_max_packets,
            max_bytes=settings.in_hand_max_bytes,
        )
        self._mqtt: MqttSource | None = None
        self._kafka: KafkaSource | None = None
        self._kafka_reach = KafkaReach(settings.kafka_bootstrap_servers or "", "depotgrid-ingest-reach")
        if settings.mqtt_url is not None and self._room is not None and diverting is not None:
            self._room.feed(self.pipeline)
            self._mqtt = MqttSource(
                settings.mqtt_url,
                settings.mqtt_client_id,
                settings.mqtt_session_expiry_s,
                self.pipeline,
                pool,
                holder,
                _now,
                self._room,
                diverting.look_out,
            )
            self.pipeline.add_source(self._mqtt)
        if settings.kafka_bootstrap_servers is not None:
            self._kafka = KafkaSource(
                settings.kafka_bootstrap_servers,
                settings.kafka_group_id,
                self.pipeline,
                _now,
                settings.batch_max,
                PartitionPauses(limit, self._directory.gateway_of) if limit is not None else None,
            )
            kafka = self._kafka
            metrics.watch_partitions(resting=lambda: float(kafka.partitions_resting))
            self.pipeline.add_source(self._kafka)
        self._tasks: list[asyncio.Task[None]] = []
        brokers = (self._kafka.broker,) if self._kafka is not None else ()
        self.app = _Application(
            *brokers,
            logger=None,
            on_startup=[self._start],
            on_shutdown=[self._stop_taking],
            after_shutdown=[self._finish],
        )

    async def readiness(self) -> Sequence[str]:
        """Why no progress is made; a standby that could take over is ready."""
        reasons: list[str] = []
        if not self._loaded.is_set():
            reasons.append("the configuration of the sites is not loaded yet")
        if self.pipeline.trouble is not None:
            reasons.append(f"the database does not take packets: {self.pipeline.trouble}")
        age_s = self.pipeline.unacknowledged_age_s()
        if age_s > self._settings.unacknowledged_age_limit_s:
            reasons.append(f"the oldest packet in hand waits since {age_s:.0f} s")
        if self._mqtt is not None and self._mqtt.trouble is not None:
            reasons.append(self._mqtt.trouble)
        if self._kafka_reach.trouble is not None:
            reasons.append(self._kafka_reach.trouble)
        return reasons

    async def _start(self) -> None:
        self._leave_at_second_signal()
        # What is loaded lives as long as the worker. The garbage collector need not walk through it while it grows, nor ever after,
        # which takes a tenth of a second each time where 100,000 devices are configured.
        gc.disable()
        async with self._pool.acquire() as connection:
            await self._follower.load_all(connection)
        gc.freeze()
        gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
        gc.enable()
        self._loaded.set()
        log.info("configuration loaded", depots=len(self._directory))
        self._spawn(self.pipeline.run(), "pipeline")
        self._spawn(self._follow_changes(), "site-changes")
        self._spawn(self._sweep(), "heartbeat-sweep")
        self._spawn(self._keep_letter_quota(), "letter-quota")
        self._spawn(self._prune_outbox(), "outbox-pruning")
        if self._mqtt is not None and self._room is not None:
            self._spawn(self._mqtt.run(), "mqtt")
            self._spawn(self._room.run(), "waiting-room")
        if self._kafka is not None:
            await self._kafka_reach.wait()
            self._spawn(self._kafka.run(), "kafka-offsets")
            self._spawn(self._kafka_reach.run(), "kafka-reach")

    async def _stop_taking(self) -> None:
        """Commit what is in hand, while FastStream's consumer is still there to commit offsets."""
        log.info("stopping: committing what is in hand")
        if self._mqtt is not None:
            self._mqtt.stop_taking()
        if self._kafka is not None:
            self._kafka.stop_taking()
        try:
            async with asyncio.timeout(_DRAIN_S):
                await self.pipeline.wait_until_idle()
                if self._kafka is not None:
                    await self._kafka.commit()
        except TimeoutError:
            log.warning("not all in hand could be committed; the broker sends the rest again")

    async def _finish(self) -> None:
        if self._mqtt is not None:
            await self._mqtt.close()
        for task in self._tasks:
            task.cancel()
        # Giving a connection back waits for a database that may say nothing any more; whoever closes the pool cuts it.
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_LOOK_S)

    async def _follow_changes(self) -> None:
        url = self._settings.database_url or ""
        loop = asyncio.get_running_loop()
        last_followed = loop.time()
        while True:
            connection = None
            try:
                connection = await connect(url, "depotgrid-ingest-changes")
                if loop.time() - last_followed > KEEP_CHANGES_S / 2:
                    await self._follower.load_all(connection)
                await self._follower.follow(connection)
            except Exception as fault:  # the feed must come back from anything
                if connection is not None:
                    last_followed = loop.time()
                log.warning("not following configuration changes, trying again", reason=str(fault) or type(fault).__name__)
                await asyncio.sleep(_RETRY_S)
            finally:
                if connection is not None:
                    connection.terminate()

    async def _sweep(self) -> None:
        next_pruning = 0.0
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                lost = await sweep_heartbeats(self._store, self._directory, _now())
                if asyncio.get_running_loop().time() > next_pruning:
                    await prune_changes(self._pool)
                    next_pruning = asyncio.get_running_loop().time() + _PRUNING_S
            except Exception as fault:  # the next sweep finds what this one left
                log.warning("heartbeats not swept", reason=str(fault) or type(fault).__name__)
                await asyncio.sleep(_RETRY_S)
                continue
            if lost:
                self._metrics.count_heartbeat_losses(lost)
                log.warning("controller heartbeats lost", controllers=lost)

    async def _prune_outbox(self) -> None:
        """Keep the outbox from growing for ever also where no relay runs."""
        settings = self._settings
        unsent = False
        while True:
            await asyncio.sleep(_OUTBOX_PRUNING_PAUSE_S if unsent else _OUTBOX_PRUNING_S)
            try:
                pruned = await prune_outbox(
                    self._pool,
                    keep_sent_s=settings.outbox_keep_sent_s,
                    keep_unsent_s=settings.outbox_keep_unsent_s,
                    limit=_OUTBOX_ROWS_AT_ONCE,
                )
            except Exception as fault:  # the next round finds what this one left
                log.warning("outbox not pruned", reason=str(fault) or type(fault).__name__)
                unsent = False
                continue
            if pruned.forgotten:
                log.warning("no relay has served a broker for long, nothing is kept for it any more", brokers=pruned.forgotten)
            # Where relays run, they remove what they sent.
            unsent = pruned.unsent and pruned.rows == _OUTBOX_ROWS_AT_ONCE

    async def _keep_letter_quota(self) -> None:
        since = datetime.min.replace(tzinfo=UTC)
        while True:
            now = _now()
            try:
                dropped = await keep_quota(self._pool, since, self._settings.dead_letter_cause_max_bytes, now)
            except Exception as fault:  # the next look finds what this one left
                log.warning("dead letters not held to their quota", reason=str(fault) or type(fault).__name__)
            else:
                # What is being written at this moment is looked at once more.
                since = now - _QUOTA_OVERLAP
                if dropped:
                    self._metrics.count_bodies_dropped(dropped)
                    log.warning("too many dead letters of a cause, oldest bodies let go of", by_reason=dict(dropped))
            await asyncio.sleep(_QUOTA_S)

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._on_task_end)
        self._tasks.append(task)

    def _on_task_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.critical(
                "a part of the worker died, leaving so that it is started again", part=task.get_name(), exc_info=task.exception()
            )
            os._exit(1)

    def _leave_at_second_signal(self) -> None:
        loop = asyncio.get_running_loop()

        def leave(*_: object) -> None:
            os._exit(1)

        def first() -> None:
            self.app.exit()
            leave_in_time(_say)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, leave)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, first)


class _Application(FastStream):
    """A FastStream application that may also have no broker of FastStream's own: MQTT comes by our source."""

    async def _start_broker(self) -> None:
        if self.brokers:
            await super()._start_broker()


def _say(line: str) -> None:
    sys.stderr.write(f"depotgrid ingest: {line}\n")
    sys.stderr.flush()


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - a worker owns its clock


async def _run(settings: Settings) -> int:
    registry = CollectorRegistry()
    pool = await open_pool(settings.database_url or "", "depotgrid-ingest", leaves_nothing=True)
    try:
        worker = Worker(settings, pool, IngestMetrics(registry))
        async with serve(health_app(registry, worker.readiness), settings.http_host, settings.http_port) as port:
            log.info("ingest worker up", probes=f"http://{settings.http_host}:{port}/readyz")
            await worker.app.run()
    finally:
        pool.terminate()
    return 0


def run() -> int:
    """Run until a signal; 0 after an orderly stop, 1 with one line when the start fails, 2 for wrong settings."""
    settings = load_settings(need=(Need.DATABASE, Need.PACKET_SOURCE))
    if not isinstance(settings, Settings):
        for fault in settings:
            _say(fault.line())
        return 2
    configure_logging("depotgrid-ingest", level=settings.log_level, style=settings.log_format)
    try:
        return uvloop.run(_run(settings))
    except (DatabaseFault, ListenError, KafkaError, *UNREACHABLE) as fault:
        _say(str(fault))
        return 1
