"""Packets from MQTT 5: where they enter, and where they are acknowledged after the commit.

The session behind it (`broker_sessions.mqtt_session`) says how a connection is held, lost and taken over. Here each packet gets the
identity that its topic claims and goes into the pipeline, with the connection that it came by as the token for its
acknowledgement. When the pipeline is full the session stops reading, so that the backlog stays in the broker. What a gateway sends
above its limit goes round by the waiting room (`waiting_room.py`), in its place among the others.

What comes in one turn of the event loop was read from the socket at once, some 170 packets of a backlog, and has one time of
receipt: reading the clock for each would tell nothing more, and what is derived from that time is made once for all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from broker_sessions.mqtt_session import Connection, MqttSession
from event_store.database import Pool
from ingest_worker.batching import Pipeline
from ingest_worker.lane import passing
from ingest_worker.waiting_room import WaitingRoom
from sensor_packet.packet import ClaimedIdentity
from sensor_packet.topics import MQTT_PACKET_FILTER, parse_mqtt_packet_topic
from service_runtime.tracing import parse_traceparent
from site_operations.ingest import RawPacket


class MqttSource:
    """Feeds the pipeline from one broker. `run` is the task that works until `stop_taking`."""

    name = "mqtt"

    def __init__(
        self,
        url: str,
        client_id: str,
        session_expiry_s: int,
        pipeline: Pipeline,
        pool: Pool,
        holder: str,
        clock: Callable[[], datetime],
        room: WaitingRoom | None = None,
        limited: Callable[[], None] = lambda: None,
    ) -> None:
        """`limited` is called when packets may go round from now on."""
        self._session = MqttSession(
            url,
            client_id,
            session_expiry_s,
            MQTT_PACKET_FILTER,
            self.take,
            pool,
            holder,
            taken_over=self._take_over,
            lost=self._leave,
        )
        self._room = room
        self._limiting: WaitingRoom | None = None
        self._limited = limited
        self._pipeline = pipeline
        self._clock = clock
        self._received_at: datetime | None = None
        """When the packets of this turn of the event loop were received; None before its first."""
        self._turn_s = 0.0

    @property
    def trouble(self) -> str | None:
        """Why no packets come, while the lease is ours and the broker is not to be had."""
        return self._session.trouble or (self._room.trouble if self._room is not None else None)

    async def run(self) -> None:
        """Hold the session when it can be had."""
        await self._session.run()

    def stop_taking(self) -> None:
        """Take no more packets; those in hand are still acknowledged until `close`."""
        self._session.stop_taking()
        if self._room is not None:
            self._room.stop_taking()

    async def close(self) -> None:
        """Disconnect in order, and let a standby have the session at once."""
        await asyncio.gather(self._leave(), self._session.drop())
        await self._session.close()

    async def _take_over(self) -> None:
        if self._room is not None:
            await self._room.take_over()
            if self._room.is_needed:
                self._limiting = self._room
                self._limited()

    async def _leave(self) -> None:
        if self._room is not None:
            await self._room.leave()

    def take(self, connection: Connection, mid: int | None, topic: str, payload: bytes, properties: Mapping[str, Any]) -> None:
        """Take one packet from a connection, unless we are leaving: then the broker keeps it."""
        if not self._session.is_current(connection):
            return
        user_properties = properties.get("user_property")
        headers = dict(user_properties) if user_properties else _NO_HEADERS
        trace = parse_traceparent(headers.get("traceparent")) if headers else None
        raw = RawPacket(
            payload,
            self.name,
            topic,
            parse_mqtt_packet_topic(topic) or ClaimedIdentity("", ""),
            self._received_at or self._begin_turn(),
            headers=headers,
            trace_id=trace.trace_id if trace is not None else None,
        )
        if self._limiting is not None:
            lane = self._limiting.lane_for(raw.claimed.gateway_id, len(payload), self._turn_s)
            if lane is not None:
                raw = passing(raw, lane)
        self._pipeline.put(self, (connection, mid), raw)
        if self._pipeline.has_enough:
            self._pipeline.note_full()
            self._session.pause()

    def _begin_turn(self) -> datetime:
        received_at = self._received_at = self._clock()
        loop = asyncio.get_running_loop()
        self._turn_s = loop.time()
        loop.call_soon(self._end_turn)
        return received_at

    def _end_turn(self) -> None:
        self._received_at = None

    def stored(self, tokens: Sequence[object]) -> None:
        """Acknowledge packets on the connection that each came by."""
        # A source gets back the tokens that it gave.
        self._session.acknowledge(cast("Sequence[tuple[Connection, int | None]]", tokens))

    def has_room(self) -> None:
        """Read again after a pause."""
        self._session.resume()


_NO_HEADERS: Mapping[str, str] = {}
