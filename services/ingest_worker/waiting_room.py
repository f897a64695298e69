"""What a gateway sends above its limit waits in the broker: put back on a topic of its own, and read from there at its pace.

One session brings the packets of all gateways, and its acknowledgements go out in the order of delivery. Holding one packet back
would hold back everybody's. So a packet above the limit is not held: it passes through the pipeline in its place, is published
again on `iot/v1/{gateway_id}/{device_id}/detour` with its body, its properties and its time of receipt, and is acknowledged once
the broker has confirmed that. For each gateway that waits there is a second lasting session at the broker, subscribed to that
gateway's detour alone, which is read at the pace of its bucket; while there is no token nothing is read, and TCP keeps the rest
in the broker. So gateways that wait do not wait for each other, and in hand is no more of each than one read of its socket. What
comes back goes through the pipeline as if it had just come from the gateway. `detour.py` says when packets go round.

Edges:

- In a batch, what goes straight is stored before what goes round is published. So whatever is on the way, all before it is stored.
- A detour that can not be made (access list, connections) leaves the limit unenforced for this gateway, says so, and is tried again
  later. Neighbours never wait for it. Once packets go round, a broker that refuses them is waited for, since to let them pass would
  turn their order; `/readyz` says so.
- The broker's queue is finite. When more of a gateway waits than `max_waiting_bytes`, it is read without regard to its tokens:
  rather unfair than lost.
- A packet larger than any may be goes straight: it can only become a dead letter, and a copy with our properties might be too
  large for the broker.
- More than `most_waiting` gateways do not wait at once; the limit is not enforced for the rest.
- Who loses the lease forgets all of it; who takes it finds the waiting gateways in the database. So does a worker whose limit was
  switched off: it reads what waits, as fast as it can, in order.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, cast

import structlog

from broker_sessions.mqtt_publisher import MqttPublisher
from broker_sessions.mqtt_session import Connection, LastingSession
from broker_sessions.outgoing import NotPublishedError, Outgoing
from event_store.database import UNREACHABLE, Pool
from event_store.waiting_gateways import forget_waiting, reserve_places, take_waiting_over
from ingest_worker.batching import Pipeline
from ingest_worker.detour import PLACES_AT_ONCE, Detour, Phase
from ingest_worker.detour_message import as_it_came, is_marker, marker, on_detour
from ingest_worker.lane import Lane, Passing, Token
from ingest_worker.token_bucket import UNLIMITED, GatewayLimit, TokenBucket
from sensor_packet.decode import MAX_PACKET_BYTES
from sensor_packet.identifiers import is_identifier
from sensor_packet.packet import ClaimedIdentity
from sensor_packet.topics import mqtt_detour_filter
from service_runtime.metrics import IngestMetrics
from site_operations.ingest import Ingest, PreparedPacket, RawPacket, Stored

log = structlog.get_logger("ingest_worker.waiting")

_LOOK_S = 0.5
_PATIENCE_S = 3.0
"""A detour on which nothing has moved for so long gets a marker."""
_REST_S = 5.0
"""A detour is kept for so long after its last packet: a gateway at its limit comes and goes."""
_OPENING_S = 10.0
_RETRY_OPENING_S = 30.0
_FIRST_BACKOFF_S = 0.05
_LONGEST_BACKOFF_S = 2.0
_SAY_AGAIN_S = 60.0
_MOST_IDLE_BUCKETS = 1_000


class _Known:
    """A gateway that sent something of late."""

    __slots__ = ("bucket", "lane", "retry_at")

    def __init__(self, bucket: TokenBucket) -> None:
        self.bucket = bucket
        self.lane: Lane | None = None
        self.retry_at = 0.0


class WaitingRoom:
    """The detours of all gateways of one MQTT session. `run` is the task that looks after them."""

    name = "mqtt-waiting"

    def __init__(
        self,
        url: str,
        client_id: str,
        session_expiry_s: int,
        pool: Pool,
        holder: str,
        limit: GatewayLimit | None,
        metrics: IngestMetrics,
        clock: Callable[[], datetime],
        *,
        max_waiting_bytes: int,
        most_waiting: int = 200,
    ) -> None:
        self._url = url
        self._client_id = client_id
        self._session_expiry_s = session_expiry_s
        self._pool = pool
        self._holder = holder
        self._lease_name = f"mqtt/{client_id}"
        self._limit = limit
        self._metrics = metrics
        self._clock = clock
        self.max_waiting_bytes = max_waiting_bytes
        self._most_waiting = most_waiting
        self._publisher = MqttPublisher(url, f"{client_id}-detour", needs_subscriber=True)
        self._publishing = asyncio.Lock()
        self._pipeline: Pipeline | None = None
        self._known: dict[str, _Known] = {}
        self._lanes: dict[str, Lane] = {}
        self._work: set[asyncio.Task[None]] = set()
        self._prune_at = _MOST_IDLE_BUCKETS
        self._say_full_at = 0.0
        self._is_open = False
        self.trouble: str | None = None
        """Why what is above a limit can not be put back into the broker."""
        metrics.watch_waiting(
            gateways=lambda: float(sum(lane.detour.phase is Phase.DIVERTING for lane in self._lanes.values())),
            waiting_bytes=lambda: float(sum(lane.detour.waiting_bytes for lane in self._lanes.values())),
        )

    def feed(self, pipeline: Pipeline) -> None:
        """Name the pipeline that packets go into when they come back."""
        self._pipeline = pipeline
        pipeline.add_source(self, held=lambda: self.packets_held)

    def time(self) -> float:
        """Seconds by the event loop's clock, which buckets go by."""
        return asyncio.get_running_loop().time()

    @property
    def is_needed(self) -> bool:
        """Whether there is a limit, or something waits from a time when there was."""
        return self._limit is not None or bool(self._lanes)

    @property
    def packets_held(self) -> int:
        """Packets read from detours that have no token yet."""
        return sum(len(lane.held) for lane in self._lanes.values())

    def lane_for(self, gateway_id: str | None, size: int, now: float) -> Lane | None:
        """Where a packet of `size` bytes that has just come from a gateway goes round; None when it goes straight, paid for."""
        known = self._known.get(gateway_id or "")
        if known is None:
            known = self._meet(gateway_id or "", now)
        lane = known.lane
        if size > MAX_PACKET_BYTES:
            known.bucket.charge(1, now)
            return None
        if lane is not None:
            return lane if lane.detour.diverts(known.bucket, now) else None
        if not known.bucket.take(now):
            self._begin(gateway_id or "", known, now)
        return None

    async def take_over(self) -> None:
        """Become responsible for what waits at the broker, before its session is read; raises what the database raises."""
        await self.leave()
        now = self.time()
        for gateway_id, reserved in (await take_waiting_over(self._pool, self._lease_name, self._holder)).items():
            lane = self._make_lane(gateway_id, self._meet(gateway_id, now), Detour(Phase.DIVERTING, reserved))
            lane.keep_reading()
            log.info("gateway still waits", gateway_id=gateway_id)
        self._is_open = True

    async def leave(self, *, stop_publishing: bool = True) -> None:
        """Let go of everything, without a word to the database; the sessions stay at the broker."""
        self._is_open = False
        lanes, self._lanes, self._known = list(self._lanes.values()), {}, {}
        for task in list(self._work):
            task.cancel()
        await asyncio.gather(*[lane.leave(end=False) for lane in lanes], *self._work, return_exceptions=True)
        if stop_publishing:
            await self._publisher.close()
        self.trouble = None

    def stop_taking(self) -> None:
        """Read no detour any more; what is in the pipeline is still published and acknowledged."""
        for lane in self._lanes.values():
            lane.stop()

    async def run(self) -> None:
        """Look after the detours until cancelled: markers where nothing moves, an end to those that have done their work."""
        while True:
            await asyncio.sleep(_LOOK_S)
            now = self.time()
            for lane in list(self._lanes.values()):
                detour = lane.detour
                if detour.phase is not Phase.OPENING:
                    lane.keep_reading()
                if now - lane.moved_at < _PATIENCE_S:
                    continue
                if detour.phase is Phase.DIVERTING and not detour.unpublished and not lane.held and lane.session.trouble is None:
                    lane.moved_at = now
                    self._spawn(self._send_marker(lane))
                elif detour.may_close and now - lane.moved_at > _REST_S:
                    await self._close(lane)

    async def publish(self, packets: Sequence[Passing]) -> None:
        """Put packets back into the broker and return when it has confirmed them, however long that takes."""
        async with self._publishing:
            placed: list[tuple[Lane, Outgoing]] = []
            for packet in packets:
                lane = packet.lane
                if lane is not None and not lane.is_abandoned:
                    placed.append((lane, on_detour(packet, lane.detour.next_place(len(packet.body)))))
            backoff_s = _FIRST_BACKOFF_S
            while placed := [(lane, message) for lane, message in placed if not lane.is_abandoned]:
                confirmed = len(placed)
                try:
                    await self._reserve({lane for lane, _ in placed})
                    await self._publisher.publish([message for _, message in placed])
                except (NotPublishedError, *UNREACHABLE) as fault:
                    confirmed = fault.confirmed if isinstance(fault, NotPublishedError) else 0
                    self.trouble = f"what is above a gateway's limit is not taken back: {fault}"
                    log.warning("detour not taken, trying again", packets=len(placed) - confirmed, reason=str(fault))
                else:
                    self.trouble = None
                self._metrics.count_diverted(confirmed)
                for lane, _ in placed[:confirmed]:
                    lane.detour.confirmed()
                placed = placed[confirmed:]
                if placed:
                    await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
                    backoff_s = min(backoff_s * 2, _LONGEST_BACKOFF_S)

    def stored(self, tokens: Sequence[object]) -> None:
        """Acknowledge what came back and is stored, on the connection that each came by."""
        by_lane: dict[Lane, list[tuple[Connection, int | None]]] = {}
        for lane, connection, mid, place in cast("Sequence[Token]", tokens):
            by_lane.setdefault(lane, []).append((connection, mid))
            if place is not None:
                lane.detour.stored(place)
        for lane, delivered in by_lane.items():
            lane.session.acknowledge(delivered)

    def has_room(self) -> None:
        """Go on after the pipeline was full."""
        for lane in self._lanes.values():
            lane.feed()

    def is_full(self) -> bool:
        """Whether the pipeline takes nothing now; then `has_room` is called later."""
        pipeline = self._pipeline
        if pipeline is None or not pipeline.is_full:
            return False
        pipeline.note_full()
        return True

    def put(self, token: Token, topic: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Hand what came back to the pipeline, as what it was when it came from the gateway."""
        if self._pipeline is None:
            raise AssertionError("detours are read once the pipeline is known")
        now = self._clock()
        if is_marker(headers):
            self._pipeline.put(self, token, Passing(b"", "mqtt", topic, ClaimedIdentity("", ""), now))
        else:
            self._pipeline.put(self, token, as_it_came(topic, body, headers, now))

    def session_of(self, gateway_id: str, take: Callable[..., None]) -> LastingSession:
        """The session at the broker in which a gateway's packets wait."""
        return LastingSession(
            self._url,
            f"{self._client_id}-waiting-{gateway_id}",
            self._session_expiry_s,
            mqtt_detour_filter(gateway_id),
            take,
            severity=logging.DEBUG,
        )

    def _meet(self, gateway_id: str, now: float) -> _Known:
        if len(self._known) >= self._prune_at:
            self._known = {
                name: known for name, known in self._known.items() if known.lane is not None or not known.bucket.is_full(now)
            }
            self._prune_at = max(_MOST_IDLE_BUCKETS, 2 * len(self._known))
        known = self._known[gateway_id] = _Known(TokenBucket(self._limit or UNLIMITED, now))
        return known

    def _make_lane(self, gateway_id: str, known: _Known, detour: Detour) -> Lane:
        lane = known.lane = self._lanes[gateway_id] = Lane(self, gateway_id, known.bucket, detour)
        return lane

    def _begin(self, gateway_id: str, known: _Known, now: float) -> None:
        if not self._is_open or now < known.retry_at or not is_identifier(gateway_id):
            return
        if len(self._lanes) >= self._most_waiting:
            if now >= self._say_full_at:
                self._say_full_at = now + _SAY_AGAIN_S
                log.warning("too many gateways wait, the limit is not enforced for more", waiting=len(self._lanes))
            return
        lane = self._make_lane(gateway_id, known, Detour(Phase.OPENING, int(self._clock().timestamp() * 1e9)))
        self._spawn(self._open(lane, known))

    async def _open(self, lane: Lane, known: _Known) -> None:
        """Make a way round and try it; until it is there, packets come straight."""
        try:
            async with asyncio.timeout(_OPENING_S):
                await self._reserve({lane}, always=True)
                lane.keep_reading()
                await lane.session.subscribed.wait()
                await self._send_marker(lane, may_fail=True)
                await lane.first_return.wait()
        except (NotPublishedError, *UNREACHABLE) as fault:
            if lane.detour.phase is not Phase.OPENING:
                return  # the marker came back in the last moment
            reason = lane.session.trouble or str(fault) or type(fault).__name__
            log.warning("gateway is above its limit, which can not be enforced", gateway_id=lane.gateway_id, reason=reason)
            known.retry_at = self.time() + _RETRY_OPENING_S
            await self._close(lane, was_open=False)
        else:
            log.info("gateway is above its limit and waits", gateway_id=lane.gateway_id)

    async def _send_marker(self, lane: Lane, *, may_fail: bool = False) -> None:
        """Send an empty message round: when it is back, all that went before it is."""
        lane.detour.begin_marker()
        try:
            async with self._publishing:
                place = lane.detour.next_place(0)
                await self._reserve({lane})
                await self._publisher.publish([marker(lane.gateway_id, place)])
        except (NotPublishedError, *UNREACHABLE) as fault:
            if may_fail:
                raise
            log.warning("marker not sent, trying again later", gateway_id=lane.gateway_id, reason=str(fault))
        finally:
            lane.detour.confirmed()

    async def _reserve(self, lanes: set[Lane], *, always: bool = False) -> None:
        """Have places reserved before they are used; NotPublishedError where the lease is another holder's."""
        wanted = {lane: place for lane in lanes if (place := lane.detour.place_to_reserve) is not None}
        if always:
            wanted |= {lane: lane.detour.last_place + PLACES_AT_ONCE for lane in lanes}
        if not wanted:
            return
        places = {lane.gateway_id: place for lane, place in wanted.items()}
        if not await reserve_places(self._pool, self._lease_name, self._holder, places):
            raise NotPublishedError(0, "the MQTT lease is another worker's")
        for lane, place in wanted.items():
            lane.detour.reserved_place = place

    async def _close(self, lane: Lane, *, was_open: bool = True) -> None:
        lane.detour.phase = Phase.CLOSING
        try:
            await forget_waiting(self._pool, self._lease_name, self._holder, lane.gateway_id)
        except UNREACHABLE:
            if was_open:
                lane.detour.phase = Phase.RESTING
                return
            # The row of a way that nothing ever went does no harm.
        await lane.leave(end=True)
        if self._lanes.get(lane.gateway_id) is lane:
            del self._lanes[lane.gateway_id]
            self._known[lane.gateway_id].lane = None
        if was_open:
            log.info("gateway waits no more", gateway_id=lane.gateway_id, packets=lane.detour.diverted)

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)


class DivertingIngest:
    """The ingest use case, with what only passes through the pipeline left to the waiting room."""

    def __init__(self, ingest: Ingest, room: WaitingRoom) -> None:
        self._ingest = ingest
        self._room = room
        self.prepare: Callable[[RawPacket], PreparedPacket] = ingest.prepare

    def look_out(self) -> None:
        """From now on packets may be ones that only pass; before, looking at each would be for nothing."""
        self.prepare = self._prepare

    def _prepare(self, raw: RawPacket) -> PreparedPacket:
        if type(raw) is Passing:
            return PreparedPacket(raw, None, None, (), None, None)
        return self._ingest.prepare(raw)

    def assemble(self, batch: Sequence[PreparedPacket]) -> Callable[[], Awaitable[Stored]]:
        """What stores a batch, as `Ingest.assemble`, and then publishes what goes round.

        It raises what storing raises, and then has done nothing.
        """
        passing = [prepared.raw for prepared in batch if type(prepared.raw) is Passing]
        if not passing:
            return self._ingest.assemble(batch)
        straight = [prepared for prepared in batch if type(prepared.raw) is not Passing]
        going_round = [raw for raw in passing if raw.lane is not None]
        return partial(self._store, self._ingest.assemble(straight) if straight else None, going_round)

    async def _store(self, store: Callable[[], Awaitable[Stored]] | None, going_round: Sequence[Passing]) -> Stored:
        stored = await store() if store is not None else Stored(())
        if going_round:
            await self._room.publish(going_round)
        return stored
