"""When a gateway's packets go round by the broker, and when they may come straight again: the state of one detour.

A gateway that exceeds its limit has its packets put back into the broker, on a topic of their own, and read from there at its
pace. So two streams carry its packets, and the order is kept by never letting both carry new ones:

- `OPENING`: the way round is being made and tried with an empty message, the *marker*. Packets still come straight.
- `RESTING`: the way is there and nothing is on it. Packets come straight while there are tokens.
- `DIVERTING`: every packet goes round, tokens or not. It ends when nothing is on the way any more: all that was taken for the way
  was confirmed by the broker (`unpublished` is 0) and has come back (`returned_place` has reached `last_place`).
- `CLOSING`: the way is being taken away. Packets come straight.

A *place* numbers what is published, ascending in the order of publishing and further apart by the size of each message; so the
distance between the last one and the one that came back is also how many bytes wait. Places go on over the death of a worker:
they are reserved in the database ahead of their use, and who takes over begins behind what was reserved. It does not know what is
on the way, so it diverts, and a marker of its own tells it when all before it has come back. The same cures whatever a crash of the
broker swallowed: where nothing moves, a new marker goes round. Places begin at the clock, so that leftovers of an earlier time can
not be taken for new ones.

"Came back" means: handed to the pipeline, behind which nothing passes it. What goes straight after that is stored after it. The
row in the database stays until it is stored; a worker that dies before finds the row and diverts first.
"""

from __future__ import annotations

from enum import Enum

from ingest_worker.token_bucket import TokenBucket

PLACES_AT_ONCE = 16 * 1024 * 1024
"""Bytes for which places are reserved by one write to the database."""
_OVERHEAD_BYTES = 100
"""Of a message in the broker's queue, about, besides its body: so that also empty ones have places of their own."""


class Phase(Enum):
    """Where the packets of a gateway go; see the module's text."""

    OPENING = "opening"
    RESTING = "resting"
    DIVERTING = "diverting"
    CLOSING = "closing"


class Detour:
    """The state of one gateway's detour; it does nothing by itself."""

    def __init__(self, phase: Phase, last_place: int) -> None:
        self.phase = phase
        self.last_place = last_place
        self.reserved_place = last_place
        self.returned_place: int | None = None
        self.stored_place: int | None = None
        self.unpublished = 0
        self.diverted = 0
        """Packets since the beginning, for people."""

    def diverts(self, bucket: TokenBucket, now: float) -> bool:
        """Whether a packet that came straight from the gateway goes round; then it counts as taken for the way."""
        match self.phase:
            case Phase.DIVERTING:
                pass
            case Phase.RESTING:
                if bucket.take(now):
                    return False
                self.phase = Phase.DIVERTING
            case Phase.OPENING | Phase.CLOSING:
                bucket.charge(1, now)
                return False
        self.unpublished += 1
        self.diverted += 1
        return True

    def begin_marker(self) -> None:
        """Count a marker as taken for the way."""
        self.unpublished += 1

    def next_place(self, size: int) -> int:
        """The place of the next message, with a body of `size` bytes; to be called in the order of publishing."""
        self.last_place += size + _OVERHEAD_BYTES
        return self.last_place

    @property
    def place_to_reserve(self) -> int | None:
        """What has to be reserved before the last place may be used; None where it is."""
        return self.last_place + PLACES_AT_ONCE if self.last_place > self.reserved_place else None

    def confirmed(self, messages: int = 1) -> None:
        """The broker confirmed so many; or they are given up, after which only a later marker can show that the way is empty."""
        self.unpublished -= messages
        self._settle()

    def returned(self, place: int) -> None:
        """A message came back and is in the pipeline."""
        if self.returned_place is None or place > self.returned_place:
            self.returned_place = place
        self._settle()

    def stored(self, place: int) -> None:
        """A message that came back is stored, with all before it."""
        if self.stored_place is None or place > self.stored_place:
            self.stored_place = place

    @property
    def waiting_bytes(self) -> int:
        """About how many bytes wait on the way; 0 where that is not known yet."""
        return 0 if self.returned_place is None else max(0, self.last_place - self.returned_place)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is on the way."""
        return self.unpublished == 0 and self.returned_place is not None and self.returned_place >= self.last_place

    @property
    def may_close(self) -> bool:
        """Whether nothing is on the way and all that was is stored."""
        return (
            self.phase is Phase.RESTING and self.is_empty and self.stored_place is not None and self.stored_place >= self.last_place
        )

    def _settle(self) -> None:
        if self.phase in (Phase.OPENING, Phase.DIVERTING) and self.is_empty:
            self.phase = Phase.RESTING
