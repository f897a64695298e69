"""Server-sent events of a microgrid: what happens as `event`, and the card as `card` whenever it changed.

One follower per process reads the store in the order that skips nothing (`event_store.follow`) and hands each event to the
clients of its microgrid (`stream_client`). It wakes by notification, and by its poll where one is missed or where an older
transaction still held the newest events back.

Where a client begins. The follower lets new clients in only between two rounds, so that a client's start is a position up to
which everything is settled and from which on it is handed everything. A client that resumes after an earlier position gets what
is between from the store.

Events. Each microgrid hands on at once what comes after a pause; what follows is gathered for a moment and handed on together. So
a busy microgrid costs a few writes a second for each client, however much happens in it.

Cards. A microgrid that has clients has one card for all of them, looked at whenever something may have changed it: an event, a
changed configuration, a moment at which something turns stale or a heartbeat is lost, and every second for what nobody announces
(dead letters, remediation). The cards that are due at a moment are read together, so that many busy microgrids cost the database
hardly more than one. A card is sent only if it differs in more than ages, at most four times a second; a client
that has not taken the last one yet gets only the newest. The first message is the current card.

A client whose queue is full is let go, and one whose token ends: it resumes by its last id. Nothing here outlives the last
client but the follower.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterable, Sequence
from datetime import datetime
from typing import Annotated

import msgspec
import structlog
from fastapi import APIRouter, Depends, Header, Query
from pydantic import Field
from starlette.requests import Request

from event_store.append import EVENT_CHANNEL
from event_store.database import UNREACHABLE, Connection
from event_store.follow import START, Wanted, along_the_index, end_position, next_stretch
from event_store.read import Position, StoredEvent
from microgrid.card import STATE_OF_CHARGE, Card, is_card_event, lasting, next_turn
from microgrid.provisioning import RETIRED
from read_api.answers import NoQuery, not_found
from read_api.backing import ACQUIRE_S, Backing
from read_api.card import read_cards
from read_api.history import EventTypeName, position_at
from read_api.microgrids import microgrid_by_id
from read_api.stream_client import PAGE, Batch, EventStream, StreamClient, Told, told
from service_runtime.access import principal_of
from service_runtime.problem import Problem, problem_responses
from service_runtime.request_watch import hang_up_on
from site_registry.change_feed import CHANGE_CHANNEL

POLL_S = 0.25
CARD_INTERVAL_S = 0.25
RECHECK_S = 1.0
GATHER_S = 0.2
"""How long a busy microgrid gathers events before it hands them on."""
_LOOKED_AT = 500
"""Most events, of whichever microgrids, that one statement looks at."""
_CARDS_AT_ONCE = 50
"""Most cards that are read in one snapshot."""
_CARDS_IN_ONE_GO = 10
"""Most cards that are shown, about a millisecond each, before others get a turn."""
_ADMISSION_S = 5.0
_RECONNECT_S = 1.0

_DESCRIPTION = (
    "`card` messages (without id; the data is a card) and `event` messages (with an id; the data is an event). The first message "
    "is the current card. With the header `Last-Event-ID` the events since then come first."
)
_log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode


class _Channel:
    """The clients of one microgrid, and what they were shown last."""

    def __init__(self, depot_id: str) -> None:
        self.depot_id = depot_id
        self.clients: set[StreamClient] = set()
        self._dirty = True
        self._looked_at = float("-inf")
        self._turn_at = float("inf")
        self._shown: object = None
        self._gathered: list[Told] = []
        self._handed_on_at = float("-inf")
        self._handing_on: asyncio.TimerHandle | None = None

    def may_have_changed(self) -> None:
        """Have its card looked at soon."""
        self._dirty = True

    @property
    def look_at(self) -> float:
        """When its card is to be looked at next, by the event loop's clock."""
        soonest = self._looked_at + CARD_INTERVAL_S
        return soonest if self._dirty else min(max(self._turn_at, soonest), self._looked_at + RECHECK_S)

    def looking(self, now_s: float) -> None:
        """Its card is being looked at; what changes from now on is for the next look."""
        self._dirty = False
        self._looked_at = now_s

    def offer(self, stored: StoredEvent) -> None:
        """Hand an event to the clients that want it, soon."""
        self._gathered.append(told(stored))

    def hand_on(self) -> None:
        """Give the clients what was gathered: at once after a pause, else when the moment is over."""
        if self._handing_on is not None or not self._gathered:
            return
        loop = asyncio.get_running_loop()
        wait_s = self._handed_on_at + GATHER_S - loop.time()
        if wait_s <= 0 or len(self._gathered) >= PAGE:
            self._hand_on_now()
        else:
            self._handing_on = loop.call_later(wait_s, self._hand_on_now)

    def _hand_on_now(self) -> None:
        if self._handing_on is not None:
            self._handing_on.cancel()
            self._handing_on = None
        self._handed_on_at = asyncio.get_running_loop().time()
        gathered, self._gathered = self._gathered, []
        batch_of: dict[frozenset[str], Batch] = {}
        for client in self.clients:
            types = client.event_types
            batch = batch_of.get(types)
            if batch is None:
                meant = [one for one in gathered if one.event_type in types]
                batch = batch_of[types] = Batch(meant, b"".join(one.message for one in meant))
            if batch.events:
                client.offer(batch)

    def leave(self) -> None:
        """Hand nothing on any more."""
        if self._handing_on is not None:
            self._handing_on.cancel()

    def end(self) -> None:
        """Let all clients go: the depot or its microgrid is not there any more, and who asks again is told so."""
        for client in self.clients:
            client.end()

    def show(self, card: Card, clock: Callable[[], datetime]) -> None:
        """Show the card to the clients, where it tells anything new or they have had none."""
        turn_at = next_turn(card)
        until_turn_s = (turn_at - clock()).total_seconds() if turn_at is not None else float("inf")
        self._turn_at = asyncio.get_running_loop().time() + until_turn_s
        tells = lasting(card)
        changed = tells != self._shown
        self._shown = tells
        meant = [client for client in self.clients if changed or not client.had_card]
        message = b"event: card\ndata: " + _encode(card) + b"\n\n" if meant else b""
        for client in meant:
            client.show(message)


class Streams:
    """All streams of a process, and the follower that feeds them."""

    def __init__(self, backing: Backing) -> None:
        self._backing = backing
        self._position = START
        self._waiting: list[StreamClient] = []
        self._channels: dict[str, _Channel] = {}
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
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
            self._leave(client)

    def end(self) -> None:
        """End all streams, so that the process can stop."""
        self._ended = True
        for channel in self._channels.values():
            channel.end()

    async def run(self) -> None:
        """Follow the store and make cards for ever; ends by cancellation only."""
        async with asyncio.TaskGroup() as running:
            running.create_task(self._follow(), name="follow events")
            running.create_task(self._make_cards(), name="make cards")

    async def _make_cards(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self._changed.clear()
            now_s = clock()
            due = sorted((one for one in self._channels.values() if one.look_at <= now_s), key=lambda one: one.look_at)
            if due:
                await self._look(due[:_CARDS_AT_ONCE], now_s)
                continue
            first = min((one.look_at for one in self._channels.values()), default=now_s + RECHECK_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(first - now_s):
                    await self._changed.wait()

    async def _look(self, channels: Sequence[_Channel], now_s: float) -> None:
        for channel in channels:
            channel.looking(now_s)
        try:
            cards = await read_cards(self._backing, [channel.depot_id for channel in channels])
        except UNREACHABLE as fault:
            _log.warning("no cards for the streams", fault=repr(fault))
            for channel in channels:
                channel.may_have_changed()
            await asyncio.sleep(CARD_INTERVAL_S)
            return
        except Exception:  # one card that can not be made must not end all cards for good, nor those beside it now
            if len(channels) == 1:
                _log.exception("no card for the stream", depot_id=channels[0].depot_id)
                return
            for channel in channels:
                await self._look([channel], now_s)
            return
        for shown, channel in enumerate(channels, start=1):
            card = cards[channel.depot_id]
            if isinstance(card, Problem):
                channel.end()
            else:
                channel.show(card, self._backing.clock)
            if shown % _CARDS_IN_ONE_GO == 0:
                # Requests and events take their turn between the cards.
                await asyncio.sleep(0)

    async def _follow(self) -> None:
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
            self._changed.set()

        await connection.add_listener(EVENT_CHANNEL, woken)
        await connection.add_listener(CHANGE_CHANNEL, reconfigured)
        try:
            async with along_the_index(connection):
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
            wanted = Wanted(list(self._channels), types, (STATE_OF_CHARGE,))
            stretch = await next_stretch(connection, self._position, end, wanted, look_at=_LOOKED_AT)
            self._hand_on(stretch.events)
            if stretch.end is None:
                break
            self._position = stretch.end
        self._position = max(self._position, end)

    def _let_in(self) -> None:
        waiting, self._waiting = self._waiting, []
        for client in waiting:
            channel = self._channels.get(client.microgrid_id)
            if channel is None:
                channel = self._channels[client.microgrid_id] = _Channel(client.depot_id)
            channel.clients.add(client)
            channel.may_have_changed()
            client.started.set_result(self._position)
            self._changed.set()

    def _hand_on(self, events: Iterable[StoredEvent]) -> None:
        touched: set[_Channel] = set()
        for stored in events:
            channel = self._channels.get(stored.event.microgrid_id or "")
            if channel is None:
                continue
            channel.offer(stored)
            touched.add(channel)
            if is_card_event(stored.event.event_type, stored.event.payload.get("measurand")):
                channel.may_have_changed()
                self._changed.set()
        for channel in touched:
            channel.hand_on()

    def _leave(self, client: StreamClient) -> None:
        if client in self._waiting:
            self._waiting.remove(client)
        channel = self._channels.get(client.microgrid_id)
        if channel is None:
            return
        channel.clients.discard(client)
        if not channel.clients:
            del self._channels[client.microgrid_id]
            channel.leave()


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
            with _until(principal_of(request).expires_at, backing.clock(), client.end):
                yield client

    connected_client = Depends(connected)

    @router.get(
        "/api/microgrid/{microgrid_id}/stream",
        response_class=EventStream,
        responses={
            200: {"description": _DESCRIPTION, "content": {"text/event-stream": {"schema": {"type": "string"}}}},
            **problem_responses(404, 422, 503),
        },
    )
    async def stream(client: StreamClient = connected_client) -> EventStream:
        """What happens in a microgrid, and its card whenever it changed, as server-sent events."""
        return EventStream(client.messages(backing))

    return router


@contextlib.contextmanager
def _until(moment: datetime | None, now: datetime, end: Callable[[], None]) -> Generator[None]:
    """End a stream with the token that it was opened with, while the context lasts."""
    if moment is None:
        yield
        return
    ending = asyncio.get_running_loop().call_later(max(0.0, (moment - now).total_seconds()), end)
    try:
        yield
    finally:
        ending.cancel()


def _not_now(why: str) -> Problem:
    return Problem(503, "STREAM_UNAVAILABLE", why, headers={"Retry-After": "1"})
