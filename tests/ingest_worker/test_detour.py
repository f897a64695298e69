"""However a gateway's two streams, their acknowledgements and the deaths of workers fall together: all is stored, in order.

The model has the broker's two queues, the pipeline, the database and one worker at a time, whose every step may be its last. It
goes by the rules of `detour.py` and of what uses it: straight is stored before round is published, queues are acknowledged in
order, a row is written before a detour is used.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from hypothesis import event, given, settings
from hypothesis import strategies as st

from ingest_worker.detour import PLACES_AT_ONCE, Detour, Phase
from ingest_worker.token_bucket import TokenBucket

_SIZE = 300


class Purse:
    """A bucket with so many tokens and no clock."""

    def __init__(self) -> None:
        self.tokens = 1

    def take(self, _now: float) -> bool:
        if self.tokens <= 0:
            return False
        self.tokens -= 1
        return True

    def charge(self, packets: int, _now: float) -> None:
        self.tokens -= packets


@dataclass
class Queue:
    """A session at the broker: delivers in order, again from the first unacknowledged on a new connection."""

    messages: deque[tuple[int | None, int | None]] = field(default_factory=deque[tuple[int | None, int | None]])
    delivered: int = 0
    connection: int = 0

    def next(self) -> tuple[int | None, int | None] | None:
        if self.delivered >= len(self.messages):
            return None
        self.delivered += 1
        return self.messages[self.delivered - 1]

    def acknowledge(self, connection: int) -> None:
        if connection == self.connection:
            self.messages.popleft()
            self.delivered -= 1

    def reconnect(self) -> None:
        self.connection += 1
        self.delivered = 0


@dataclass
class InPipeline:
    """Packet `number` (None: marker) that came by `queue`; `round_by` is the detour that it is to be published on."""

    number: int | None
    place: int | None
    queue: Queue
    connection: int
    of: Detour | None
    round_by: Detour | None


class Model:
    """One gateway of one device, its broker, database and worker."""

    def __init__(self) -> None:
        self.straight, self.round = Queue(), Queue()
        self.pipeline: deque[InPipeline] = deque()
        self.sent = 0
        self.stored: list[int] = []
        self.row: int | None = None
        self.clock = 0
        self.detour: Detour | None = None
        self.purse = Purse()

    def begin(self) -> None:
        """Let there be a detour that nothing is on."""
        for _ in range(3):
            self.send()
            self.take()
        self.store(3)
        self.come_back()
        self.store(1)

    def send(self) -> None:
        self.straight.messages.append((self.sent, None))
        self.sent += 1

    def earn(self) -> None:
        self.purse.tokens += 2

    def take(self) -> None:
        """The worker reads one packet that came straight."""
        message = self.straight.next()
        if message is None:
            return
        bucket = cast("TokenBucket", self.purse)
        goes_round = False
        if self.detour is not None:
            goes_round = self.detour.diverts(bucket, 0.0)
        elif not bucket.take(0.0):
            self.clock += 10**9
            self.detour = Detour(Phase.OPENING, self.clock)
            self.row = self.detour.reserved_place = self.clock + PLACES_AT_ONCE
            self.mark()
        round_by = self.detour if goes_round else None
        self.pipeline.append(InPipeline(message[0], None, self.straight, self.straight.connection, None, round_by))

    def come_back(self) -> None:
        """The worker reads one message of the detour."""
        if self.detour is None:
            return
        message = self.round.next()
        if message is None:
            return
        number, place = message
        self.pipeline.append(InPipeline(number, place, self.round, self.round.connection, self.detour, None))
        assert place is not None
        self.detour.returned(place)

    def mark(self) -> None:
        if self.detour is not None and self.detour.phase in (Phase.OPENING, Phase.DIVERTING):
            self.detour.begin_marker()
            self.publish(self.detour, None)

    def publish(self, detour: Detour, number: int | None) -> None:
        place = detour.next_place(_SIZE)
        reserve = detour.place_to_reserve
        if reserve is not None:
            self.row = detour.reserved_place = reserve
        self.round.messages.append((number, place))
        detour.confirmed()

    def store(self, size: int, *, dies_after: int | None = None) -> None:
        """One batch; the worker may die after so many of its publications, before anything is acknowledged."""
        batch = [self.pipeline.popleft() for _ in range(min(size, len(self.pipeline)))]
        for packet in batch:
            if packet.round_by is None and packet.number is not None and packet.number not in self.stored:
                self.stored.append(packet.number)
        going_round = [packet for packet in batch if packet.round_by is not None]
        for count, packet in enumerate(going_round):
            if count == dies_after:
                self.die()
                return
            assert packet.round_by is not None
            self.publish(packet.round_by, packet.number)
        if dies_after is not None:
            self.die()
            return
        for packet in batch:
            packet.queue.acknowledge(packet.connection)
            if packet.of is not None and packet.place is not None:
                packet.of.stored(packet.place)

    def close(self) -> None:
        if self.detour is not None and self.detour.may_close:
            self.row, self.detour = None, None
            self.round = Queue()

    def close_and_die(self) -> None:
        """The session of the detour, with what was stored and not acknowledged, outlives its row."""
        if self.detour is not None and self.detour.may_close:
            self.row = None
            self.die()

    def die(self) -> None:
        """The worker is gone; the next one finds what it left."""
        self.pipeline.clear()
        self.straight.reconnect()
        self.round.reconnect()
        self.purse = Purse()
        self.detour = None if self.row is None else Detour(Phase.DIVERTING, self.row)

    def settle(self) -> None:
        """Nobody sends or dies any more."""
        for _ in range(20):
            if self.detour is None:
                self.round = Queue()
            for _ in range(len(self.straight.messages) + 1):
                self.take()
            self.store(10_000)
            self.mark()
            for _ in range(len(self.round.messages) + 1):
                self.come_back()
            self.store(10_000)
            self.earn()
        self.close()


_BY_NAME: dict[str, Callable[[Model], None]] = {
    "send": Model.send,
    "send and take": lambda model: (model.send(), model.take())[1],
    "earn": Model.earn,
    "take": Model.take,
    "come back": Model.come_back,
    "store one": lambda model: model.store(1),
    "store some": lambda model: model.store(5),
    "die after storing": lambda model: model.store(5, dies_after=0),
    "die after publishing one": lambda model: model.store(5, dies_after=1),
    "die before acknowledging": lambda model: model.store(5, dies_after=9),
    "die": Model.die,
    "lose the connection": lambda model: model.straight.reconnect(),
    "lose the connection of the detour": lambda model: model.round.reconnect(),
    "mark": Model.mark,
    "close": Model.close,
    "close and die": Model.close_and_die,
}
_OFTEN = ["send and take"] * 4 + ["come back"] * 4 + ["store some"] * 3 + ["store one"] * 2


@settings(max_examples=400)
@given(st.lists(st.sampled_from([*_BY_NAME, *_OFTEN]), min_size=20, max_size=120))
def test_everything_is_stored_in_order_and_the_gateway_is_at_its_ease_again(steps: list[str]) -> None:
    model = Model()
    model.begin()
    was_round = False
    for step in steps:
        _BY_NAME[step](model)
        was_round = was_round or (model.detour is not None and model.detour.phase is Phase.DIVERTING)
        assert model.stored == sorted(model.stored)
    event(f"went round: {was_round}")
    model.settle()
    assert model.stored == list(range(model.sent))
    assert model.detour is None or model.detour.phase is Phase.RESTING
    assert not model.straight.messages
    assert not model.round.messages


def on_its_way() -> Detour:
    detour = Detour(Phase.DIVERTING, 1_000)
    detour.begin_marker()
    detour.returned(detour.next_place(0))
    detour.confirmed()
    assert detour.phase is Phase.RESTING
    return detour


def test_a_way_that_was_just_taken_over_diverts_until_a_marker_is_back() -> None:
    detour = Detour(Phase.DIVERTING, 1_000)
    purse = cast("TokenBucket", Purse())
    assert detour.diverts(purse, 0.0)
    detour.confirmed()
    assert detour.phase is Phase.DIVERTING
    detour.returned(900)
    assert detour.phase is Phase.DIVERTING
    detour.begin_marker()
    place = detour.next_place(0)
    detour.returned(place)
    assert detour.phase is Phase.DIVERTING, "it came back before it was confirmed"
    detour.confirmed()
    assert detour.phase is Phase.RESTING


def test_a_gateway_goes_round_with_its_first_packet_without_a_token_and_then_with_all() -> None:
    detour, purse = on_its_way(), Purse()
    purse.tokens = 1
    bucket = cast("TokenBucket", purse)
    assert [detour.diverts(bucket, 0.0) for _ in range(2)] == [False, True]
    purse.tokens = 10
    assert [detour.diverts(bucket, 0.0) for _ in range(2)] == [True, True]
    assert detour.unpublished == 3


def test_a_detour_is_taken_away_only_after_all_that_came_back_is_stored() -> None:
    detour = on_its_way()
    assert not detour.may_close
    detour.stored(detour.last_place - 1)
    assert not detour.may_close
    detour.stored(detour.last_place)
    assert detour.may_close


def test_places_are_reserved_ahead_and_count_the_bytes_that_wait() -> None:
    detour = on_its_way()
    assert detour.place_to_reserve == detour.last_place + PLACES_AT_ONCE
    detour.reserved_place = detour.last_place + PLACES_AT_ONCE
    assert detour.place_to_reserve is None
    before = detour.last_place
    for _ in range(10):
        detour.next_place(900)
    assert detour.waiting_bytes == detour.last_place - before == 10_000
    detour.returned(before + 1_000)
    assert detour.waiting_bytes == 9_000


def test_what_passes_while_a_detour_is_made_or_taken_away_is_charged_and_goes_straight() -> None:
    for phase in (Phase.OPENING, Phase.CLOSING):
        purse = Purse()
        assert not Detour(phase, 0).diverts(cast("TokenBucket", purse), 0.0)
        assert purse.tokens == 0
