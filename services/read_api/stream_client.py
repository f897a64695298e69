"""One client of a microgrid's stream: what waits for it, and the bytes that it is sent.

What a client is told is written once, as the bytes of the stream, and shared by all who are told the same. A client that resumes
after a position is first served from the store up to at least its start and then from its queue, leaving out what it has had: both
are in the same order, so there is no gap and no repetition at the seam. Of cards only the newest waits. A client whose queue is
full is let go; it resumes by its last id.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from typing import NamedTuple

import msgspec
import structlog
from starlette.responses import StreamingResponse

from event_store.database import UNREACHABLE
from event_store.follow import follow
from event_store.read import Position, StoredEvent
from microgrid.events import EVENT_TYPES, MEASUREMENT_RECORDED
from read_api.backing import ACQUIRE_S, Backing
from read_api.history import event_document

PING_S = 15.0
"""After how long without a message a client is sent a comment, so that nothing between it and us thinks the stream dead."""
QUEUE_LIMIT = 1000
"""Most events that wait for one client, give or take those that came at once."""
PAGE = 250
"""Most events that are read from the store at once."""

STANDING_TYPES = frozenset(EVENT_TYPES) - {MEASUREMENT_RECORDED}
"""What every client is told: the events that change card, structure or bindings."""

_log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode


class EventStream(StreamingResponse):
    """Server-sent events; nothing on the way is to keep them back."""

    media_type = "text/event-stream"

    def __init__(self, messages: AsyncIterator[bytes], status_code: int = 200) -> None:
        super().__init__(messages, status_code, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})


class Told(NamedTuple):
    """An event as the bytes of the stream."""

    position: Position
    event_type: str
    message: bytes


class Batch(NamedTuple):
    """Events that are handed on together, oldest first, and their bytes joined."""

    events: Sequence[Told]
    joined: bytes

    def after(self, sent: Position) -> bytes:
        """The bytes of the events behind a position."""
        if self.events[0].position > sent:
            return self.joined
        return b"".join(one.message for one in self.events if one.position > sent)


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
        self._batches: deque[Batch] = deque()
        self._waiting = 0
        self._card: bytes | None = None
        self._wake = asyncio.Event()
        self._ended = False
        self.had_card = False

    def offer(self, batch: Batch) -> None:
        """Queue events, or let a client go that does not keep up."""
        if self._waiting >= QUEUE_LIMIT:
            _log.warning("a stream client did not keep up and is let go", microgrid_id=self.microgrid_id)
            self.end()
            self.hang_up.set()
            return
        self._batches.append(batch)
        self._waiting += len(batch.events)
        self._wake.set()

    def show(self, card: bytes) -> None:
        """Let the client have this card next, in place of one that it has not taken."""
        self.had_card = True
        self._card = card
        self._wake.set()

    def end(self) -> None:
        """Send nothing any more."""
        self._ended = True
        self._batches.clear()
        self._wake.set()

    async def messages(self, backing: Backing) -> AsyncIterator[bytes]:
        """Everything that the client is told, until it is let go; each part is one or more whole messages."""
        start = await self.started
        while self._card is None and not self._ended:
            await self._wait()
        if self._card is not None:
            yield self._take_card()
        sent = start
        if self.resume_after is None:
            # So that a client that has seen no event yet can resume without a gap, too.
            yield f": from here on\nid: {start.cursor()}\n\n".encode()
        else:
            sent = self.resume_after
            async for page in self._missed(backing, sent):
                if self._ended:
                    return
                meant = [told(one).message for one in page if one.event.event_type in self.event_types]
                if meant:
                    yield b"".join(meant)
                sent = page[-1].position
        while not self._ended:
            part = b""
            while self._batches:
                batch = self._batches.popleft()
                part += batch.after(sent)
                sent = max(sent, batch.events[-1].position)
            self._waiting = 0
            part += self._take_card()
            if part:
                yield part
            if not self._batches and self._card is None:
                await self._wait()
                if not self._batches and self._card is None and not self._ended:
                    yield b": ping\n\n"

    async def _missed(self, backing: Backing, after: Position) -> AsyncIterator[list[StoredEvent]]:
        while not self._ended:
            try:
                async with backing.pool.acquire(timeout=ACQUIRE_S) as connection:
                    page = await follow(connection, after, limit=PAGE, microgrid_id=self.microgrid_id)
            except UNREACHABLE as fault:
                _log.warning("a stream ends early; its client resumes", microgrid_id=self.microgrid_id, fault=repr(fault))
                self.end()
                return
            if page:
                yield page
                after = page[-1].position
            if len(page) < PAGE:
                return

    def _take_card(self) -> bytes:
        card, self._card = self._card, None
        return card or b""

    async def _wait(self) -> None:
        """Until there is something to send, the client is to end, or it is time for a sign of life."""
        if not self._ended:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PING_S):
                    await self._wake.wait()
        self._wake.clear()


def told(stored: StoredEvent) -> Told:
    """An event as a message of the stream."""
    # JSON of ours has no line ends, so an event is one line.
    message = b"event: event\ndata: " + _encode(event_document(stored)) + f"\nid: {stored.position.cursor()}\n\n".encode()
    return Told(stored.position, stored.event.event_type, message)
