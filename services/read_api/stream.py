"""Server-sent events of a microgrid: what happens as `event`, and the card as `card` whenever it changed.

One follower per process reads the store in the order that skips nothing (`event_store.follow`) and hands each event to the
clients of its microgrid. It wakes by notification, and by its poll where one is missed or where an older transaction still
held the newest events back.

Where a client begins. The follower lets new clients in only between two rounds, so that a client's start is a position up to
which everything is settled and from which on it is handed everything. A client that resumes after a position is first served
from the store up to at least its start and then from its queue, leaving out what it has had: both are in the same order, so
there is no gap and no repetition at the seam.

Cards. One task per microgrid that has clients makes one card for all of them, whenever something may have changed it: an event,
a changed configuration, a moment at which something turns stale or a heartbeat is lost, and every second for what nobody
announces (dead letters, remediation). It is sent only if it differs in more than ages, at most four times a second; a client
that has not taken the last one yet gets only the newest. The first message is the current card.

A client whose queue is full is let go: it resumes by its last id. Nothing here outlives the last client but the follower.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from datetime import datetime
from typing import Annotated

import msgspec
import structlog
from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import Field
from starlette.requests import Request

from event_store.append import EVENT_CHANNEL
from event_store.database import UNREACHABLE, Connection
from event_store.follow import START, end_position, follow
from event_store.read import EVENT_COLUMNS, Position, StoredEvent, stored_event
from microgrid.card import STATE_OF_CHARGE, is_card_event, lasting, next_turn
from microgrid.events import EVENT_TYPES, MEASUREMENT_RECORDED
from microgrid.provisioning import RETIRED
from read_api.answers import NoQuery, not_found
from read_api.backing import ACQUIRE_S, Backing
from read_api.card import read_card
from read_api.history import EventTypeName, event_document, position_at
from read_api.microgrids import microgrid_by_id
from read_api.request_watch import hang_up_on
from service_runtime.problem import Problem, problem_responses
from site_registry.change_feed import CHANGE_CHANNEL

POLL_S = 0.25
CARD_INTERVAL_S = 0.25
RECHECK_S = 1.0
QUEUE_LIMIT = 1000
"""Most events that wait for one client."""
_PAGE = 500
_ADMISSION_S = 5.0
_RECONNECT_S = 1.0

STANDING_TYPES = frozenset(EVENT_TYPES) - {MEASUREMENT_RECORDED}
"""What every client is told: the events that change card, structure or bindings."""

_DESCRIPTION = (
    "`card` messages (without id; the data is a card) and `event` messages (with an id; the data is an event). The first message "
    "is the current card. With the header `Last-Event-ID` the events since then come first."
)
_log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode

_NEXT = f"""
SELECT {EVENT_COLUMNS} FROM event_store e
WHERE (e.transaction_id, e.global_position) > ($1::text::xid8, $2::bigint) AND e.transaction_id <= $3::text::xid8
  AND e.microgrid_id = ANY ($4::uuid[]) AND (e.event_type = ANY ($5::text[]) OR e.payload ->> 'measurand' = $6)
ORDER BY e.transaction_id, e.global_position LIMIT $7
"""  # noqa: S608 - constants of ours


class StreamClient:
    """One connected client: a bounded queue of events, and the newest card that it has not taken yet."""

    def __init__(self, depot_id: str, microgrid_id: str, event_types: Collection[str], resume_after: Position | None) -> None:
        self.depot_id = depot_id
        self.microgrid_id = microgrid_id
        self.event_types = STANDING_TYPES | frozenset(event_types)
        self.resume_after = resume_after
        self.started: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        self.hang_up = asyncio.Event()
        """Set when the connection has to end without waiting for the client to take what is in the way."""
        self._events: deque[tuple[Position, str]] = deque()
        self._card: str | None = None
        self._wake = asyncio.Event()
        self._ended = False
        self.had_card = False

    def offer(self, position: Position, document: str) -> None:
        """Queue an event, or let a client go that does not keep up."""
        if len(self._events) >= QUEUE_LIMIT:
            _log.warning("a stream client did not keep up and is let go", microgrid_id=self.microgrid_id)
            self.end()
            self.hang_up.set()
            return
        self._events.append((position, document))
        self._wake.set()

    def show(self, card: str) -> None:
        """Let the client have this card next, in place of one that it has not taken."""
        self.had_card = True
        self._card = card
        self._wake.set()

    def end(self) -> None:
        """Send nothing any more."""
        self._ended = True
        self._events.clear()
        self._wake.set()

    async def messages(self, backing: Backing) -> AsyncIterator[ServerSentEvent]:
        """Everything that the client is told, until it is let go."""
        start = await self.started
        while self._card is None and not self._ended:
            await self._wait()
        for message in self._take_card():
            yield message
        sent = start
        if self.resume_after is None:
            # So that a client that has seen no event yet can resume without a gap, too.
            yield ServerSentEvent(comment="from here on", id=start.cursor())
        else:
            sent = self.resume_after
            async for page in self._missed(backing, sent):
                for one in page:
                    if self._ended:
                        return
                    if one.event.event_type in self.event_types:
                        yield _message(one.position, _event_text(one))
                sent = page[-1].position
        while not self._ended:
            while self._events:
                position, document = self._events.popleft()
                if position > sent:
                    sent = position
                    yield _message(position, document)
            for message in self._take_card():
                yield message
            if not self._events and self._card is None:
                await self._wait()

    async def _missed(self, backing: Backing, after: Position) -> AsyncIterator[list[StoredEvent]]:
        while not self._ended:
            try:
                async with backing.pool.acquire(timeout=ACQUIRE_S) as connection:
                    page = await follow(connection, after, limit=_PAGE, microgrid_id=self.microgrid_id)
            except UNREACHABLE as fault:
                _log.warning("a stream ends early; its client resumes", microgrid_id=self.microgrid_id, fault=repr(fault))
                self.end()
                return
            if page:
                yield page
                after = page[-1].position
            if len(page) < _PAGE:
                return

    def _take_card(self) -> Sequence[ServerSentEvent]:
        if self._card is None:
            return ()
        card, self._card = self._card, None
        return (ServerSentEvent(event="card", raw_data=card),)

    async def _wait(self) -> None:
        if not self._ended:
            await self._wake.wait()
        self._wake.clear()


class _Channel:
    """The clients of one microgrid, and the task that makes its card."""

    def __init__(self, backing: Backing, depot_id: str) -> None:
        self.clients: set[StreamClient] = set()
        self._backing = backing
        self._depot_id = depot_id
        self._dirty = asyncio.Event()
        self._turn_at: datetime | None = None
        self._shown: object = None
        self._text = ""
        self.task = asyncio.create_task(self._make_cards(), name=f"cards of {depot_id}")

    def may_have_changed(self) -> None:
        """Look at the card soon."""
        self._dirty.set()

    def offer(self, stored: StoredEvent) -> None:
        """Hand an event to the clients that want it."""
        document: str | None = None
        for client in self.clients:
            if stored.event.event_type in client.event_types:
                document = document or _event_text(stored)
                client.offer(stored.position, document)

    async def _make_cards(self) -> None:
        while True:
            self._dirty.clear()
            try:
                await self._look()
            except Problem:
                # The depot or its microgrid is gone: who asks again is told so.
                for client in self.clients:
                    client.end()
            except UNREACHABLE as fault:
                _log.warning("no card for the stream", depot_id=self._depot_id, fault=repr(fault))
            except Exception:  # one card that can not be made must not end the cards of this microgrid for good
                _log.exception("no card for the stream", depot_id=self._depot_id)
            await asyncio.sleep(CARD_INTERVAL_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._idle_s()):
                    await self._dirty.wait()

    async def _look(self) -> None:
        card = await read_card(self._backing, self._depot_id)
        self._turn_at = next_turn(card)
        tells = lasting(card)
        changed = tells != self._shown
        self._text = _encode(card).decode()
        self._shown = tells
        for client in self.clients:
            if changed or not client.had_card:
                client.show(self._text)

    def _idle_s(self) -> float:
        if self._turn_at is None:
            return RECHECK_S
        until_turn_s = (self._turn_at - self._backing.clock()).total_seconds()
        return min(RECHECK_S, max(until_turn_s, 0.001))


class Streams:
    """All streams of a process, and the follower that feeds them."""

    def __init__(self, backing: Backing) -> None:
        self._backing = backing
        self._position = START
        self._waiting: list[StreamClient] = []
        self._channels: dict[str, _Channel] = {}
        self._wake = asyncio.Event()
        self._ended = False
        self.last_round: float | None = None
        """When the follower last finished a round, by the event loop's clock; None before the first."""

    @property
    def clients(self) -> int:
        """How many clients are connected."""
        return sum(len(channel.clients) for channel in self._channels.values())

    @contextlib.asynccontextmanager
    async def client(
        self, depot_id: str, microgrid_id: str, event_types: Collection[str], resume_after: Position | None
    ) -> AsyncGenerator[StreamClient]:
        """A client that is let in, while the context lasts; raises 503 when the store can not be followed or all is ending."""
        client = StreamClient(depot_id, microgrid_id, event_types, resume_after)
        self._waiting.append(client)
        self._wake.set()
        try:
            if self._ended:
                raise _not_now("the process is stopping")
            try:
                async with asyncio.timeout(_ADMISSION_S):
                    await asyncio.shield(client.started)
            except TimeoutError:
                raise _not_now("the events can not be followed at the moment") from None
            yield client
        finally:
            client.end()
            await self._leave(client)

    def end(self) -> None:
        """End all streams, so that the process can stop."""
        self._ended = True
        for channel in self._channels.values():
            for client in channel.clients:
                client.end()

    async def follow(self) -> None:
        """Follow the store for ever, over a connection of its own; ends by cancellation only."""
        while True:
            try:
                async with self._backing.pool.acquire(timeout=ACQUIRE_S) as connection:
                    await self._follow_on(connection)
            except UNREACHABLE as fault:
                _log.warning("the events can not be followed; trying again", fault=repr(fault))
                await asyncio.sleep(_RECONNECT_S)

    async def _follow_on(self, connection: Connection) -> None:
        def woken(*_: object) -> None:
            self._wake.set()

        def reconfigured(*_: object) -> None:
            for channel in self._channels.values():
                channel.may_have_changed()

        await connection.add_listener(EVENT_CHANNEL, woken)
        await connection.add_listener(CHANGE_CHANNEL, reconfigured)
        try:
            while not connection.is_closed():
                self._wake.clear()
                await self._round(connection)
                self.last_round = asyncio.get_running_loop().time()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._wake.wait()
        finally:
            if not connection.is_closed():
                await connection.remove_listener(EVENT_CHANNEL, woken)
                await connection.remove_listener(CHANGE_CHANNEL, reconfigured)
        raise ConnectionError("the connection that follows the events was closed")

    async def _round(self, connection: Connection) -> None:
        if self._position == START:
            self._position = await end_position(connection)
        self._let_in()
        end = await end_position(connection)
        while end > self._position and self._channels:
            types = frozenset[str]().union(*(c.event_types for channel in self._channels.values() for c in channel.clients))
            rows = await connection.fetch(
                _NEXT,
                str(self._position.transaction_id),
                self._position.global_position,
                str(end.transaction_id),
                list(self._channels),
                sorted(types),
                STATE_OF_CHARGE,
                _PAGE,
            )
            for row in rows:
                self._hand_on(stored_event(row))
            if len(rows) < _PAGE:
                break
            self._position = Position(rows[-1]["transaction_id"], rows[-1]["global_position"])
        self._position = max(self._position, end)

    def _let_in(self) -> None:
        waiting, self._waiting = self._waiting, []
        for client in waiting:
            channel = self._channels.get(client.microgrid_id)
            if channel is None:
                channel = self._channels[client.microgrid_id] = _Channel(self._backing, client.depot_id)
            channel.clients.add(client)
            channel.may_have_changed()
            client.started.set_result(self._position)

    def _hand_on(self, stored: StoredEvent) -> None:
        channel = self._channels.get(stored.event.microgrid_id or "")
        if channel is None:
            return
        channel.offer(stored)
        if is_card_event(stored.event.event_type, stored.event.payload.get("measurand")):
            channel.may_have_changed()

    async def _leave(self, client: StreamClient) -> None:
        if client in self._waiting:
            self._waiting.remove(client)
        channel = self._channels.get(client.microgrid_id)
        if channel is None:
            return
        channel.clients.discard(client)
        if not channel.clients:
            del self._channels[client.microgrid_id]
            channel.task.cancel()
            await asyncio.wait({channel.task})


class StreamQuery(NoQuery):
    """What to be told besides."""

    event_type: list[EventTypeName] = Field([], description="types to be told besides the standing ones; may be repeated")


def stream_routes(backing: Backing, streams: Streams) -> APIRouter:
    """`/api/microgrid/{microgrid_id}/stream`."""
    router = APIRouter(tags=["microgrid"])

    async def connected(
        request: Request,
        microgrid_id: str,
        wanted: Annotated[StreamQuery, Query()],
        last_event_id: Annotated[str | None, Header(max_length=100)] = None,
    ) -> AsyncGenerator[StreamClient]:
        resume_after = position_at(last_event_id, "/header/last-event-id")
        async with backing.pool.acquire(timeout=ACQUIRE_S) as connection:
            microgrid = await microgrid_by_id(connection, microgrid_id)
            if microgrid is None or microgrid.status == RETIRED:
                raise not_found("MICROGRID", microgrid_id)
            if resume_after is not None:
                # A position beyond the end (of a database that was restored, say) would hide all that is still to come.
                resume_after = min(resume_after, await end_position(connection))
        async with streams.client(microgrid.depot_id, microgrid.microgrid_id, wanted.event_type, resume_after) as client:
            hang_up_on(request.scope, client.hang_up)
            yield client

    connected_client = Depends(connected)

    @router.get(
        "/api/microgrid/{microgrid_id}/stream",
        response_class=EventSourceResponse,
        responses={
            200: {"description": _DESCRIPTION, "content": {"text/event-stream": {"schema": {"type": "string"}}}},
            **problem_responses(404, 422, 503),
        },
    )
    async def stream(client: StreamClient = connected_client) -> AsyncIterator[ServerSentEvent]:
        """What happens in a microgrid, and its card whenever it changed, as server-sent events."""
        async for message in client.messages(backing):
            yield message

    return router


def _event_text(stored: StoredEvent) -> str:
    return _encode(event_document(stored)).decode()


def _message(position: Position, document: str) -> ServerSentEvent:
    return ServerSentEvent(event="event", id=position.cursor(), raw_data=document)


def _not_now(why: str) -> Problem:
    return Problem(503, "STREAM_UNAVAILABLE", why, headers={"Retry-After": "1"})
