"""One gateway's way round: a session at the broker in which its packets wait, read at the pace of its bucket.

What is read goes to the pipeline while there are tokens. Where there is none, nothing more is read until there is one: in hand is
at most what one read of the socket brought. What came by a connection that is lost is forgotten, since the broker sends it again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from broker_sessions.mqtt_session import Connection, LastingSession
from ingest_worker.detour import Detour
from ingest_worker.detour_message import is_marker, place_of
from ingest_worker.token_bucket import TokenBucket
from site_operations.ingest import RawPacket

_SHORTEST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.5
"""Whether too much waits is looked at as often as this, however long the next token takes."""

Token = tuple["Lane", Connection, int | None, int | None]
"""What acknowledges a message: its lane, the connection and number that it came by, and its place."""


class Room(Protocol):
    """What a lane needs of the waiting room."""

    max_waiting_bytes: int

    def time(self) -> float: ...
    def is_full(self) -> bool: ...
    def put(self, token: Token, topic: str, body: bytes, headers: Mapping[str, str]) -> None: ...
    def session_of(self, gateway_id: str, take: Callable[..., None]) -> LastingSession: ...


_Held = tuple[Connection, int | None, str, bytes, Mapping[str, str]]


class Lane:
    """The way round of one gateway: its state, its session at the broker, and what was read and has no token yet."""

    def __init__(self, room: Room, gateway_id: str, bucket: TokenBucket, detour: Detour) -> None:
        self.gateway_id = gateway_id
        self.bucket = bucket
        self.detour = detour
        self.session = room.session_of(gateway_id, self.take)
        self.held: deque[_Held] = deque()
        self.is_abandoned = False
        self.first_return = asyncio.Event()
        self.moved_at = 0.0
        self._room = room
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self._is_stopped = False
        self._consuming: asyncio.Task[None] | None = None

    def keep_reading(self) -> None:
        """Begin to read, or begin again where that ended by an accident."""
        if self._is_stopped or (self._consuming is not None and not self._consuming.done()):
            return
        self._consuming = asyncio.create_task(self.session.consume(), name=f"detour of {self.gateway_id}")

    def take(self, connection: Connection, mid: int | None, topic: str, payload: bytes, properties: Mapping[str, Any]) -> None:
        """Take what came back; it goes on when there is a token."""
        if not self.session.is_current(connection):
            return
        if self.held and self.held[0][0] is not connection:
            self.held.clear()  # all of it comes again on this connection
        self.held.append((connection, mid, topic, payload, dict(properties.get("user_property", ()))))
        if self._timer is None:
            self.feed()

    def feed(self) -> None:
        """Hand to the pipeline what has a token, and see that more comes when there is one."""
        self.cancel_timer()
        room = self._room
        now = room.time()
        while self.held:
            if room.is_full():
                self._pause()
                return
            marker = is_marker(self.held[0][4])
            over = self.detour.waiting_bytes > room.max_waiting_bytes
            if not marker and not over and not self.bucket.take(now):
                pause_s = min(max(_SHORTEST_PAUSE_S, self.bucket.wait_s(now)), _LONGEST_PAUSE_S)
                self._timer = asyncio.get_running_loop().call_later(pause_s, self.feed)
                self._pause()
                return
            self._hand_over(*self.held.popleft(), now=now)
        if self._paused:
            self._paused = False
            self.session.resume()

    def _hand_over(
        self, connection: Connection, mid: int | None, topic: str, body: bytes, headers: Mapping[str, str], *, now: float
    ) -> None:
        if not self.session.is_current(connection):
            return
        place = place_of(headers)
        self._room.put((self, connection, mid, place), topic, body, headers)
        if place is not None:
            self.moved_at = now
            self.detour.returned(place)
            self.first_return.set()

    def stop(self) -> None:
        """Take no more."""
        self._is_stopped = True
        self.session.stop_taking()
        self.cancel_timer()
        self.held.clear()

    async def leave(self, *, end: bool) -> None:
        """Be of no use any more; the session stays at the broker unless it is to `end`."""
        self.is_abandoned = True
        self.stop()
        if self._consuming is not None:
            self._consuming.cancel()
            await asyncio.gather(self._consuming, return_exceptions=True)
        await (self.session.end() if end else self.session.drop())

    def cancel_timer(self) -> None:
        """Wait for no token."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.session.pause()


class Passing(RawPacket, frozen=True, gc=False):
    """What has a place in the pipeline and is not stored: a packet to publish on its detour, or a marker that came back (None)."""

    lane: Lane | None = None


def passing(raw: RawPacket, lane: Lane) -> Passing:
    """A packet that goes round."""
    return Passing(
        raw.body, raw.source, raw.topic, raw.claimed, raw.received_at, headers=raw.headers, trace_id=raw.trace_id, lane=lane
    )
