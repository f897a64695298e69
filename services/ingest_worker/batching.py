"""Collect packets, hand them over in batches, acknowledge after the commit.

There is no timer to wait for: a batch is whatever arrived while the one before committed, up to `batch_max`. One task prepares, in
small portions between which the sockets are read, and one stores: so the database commits a batch while the next is prepared, and
what is left to do of a batch that committed (its acknowledgements, its counts) is done while the database has the next. Order is
kept: one batch commits at a time, and acknowledgements go out in the order of arrival.

When the database can not take a batch, nothing is acknowledged and nothing dead-lettered: the same batch is tried again with a
jittered backoff, for ever. Packets that arrive meanwhile are held up to a bound of packets and bytes; sources ask `is_full` and
stop reading there, so that the backlog stays in the broker and not in memory.

While the database does take batches, reading far ahead of it would only take time from preparing what it waits for: draining a
backlog, a worker that read 50,000 packets first was a fifth slower. So a source that reads without being asked to stops at
`has_enough`, two batches, and goes on when one of them is used up. Should the database take longer than `_PATIENCE_S`, it goes on
up to the bounds, since a broker whose socket nobody reads may take the connection for dead.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import NamedTuple, Protocol

import structlog

from service_runtime.metrics import IngestMetrics
from site_operations.ingest import BatchOutcome, PreparedPacket, RawPacket, Stored

_PORTION = 120
"""Packets prepared without a look at the sockets: about 2 ms, for which also the database's answer waits."""
_PATIENCE_S = 1.0
_FIRST_BACKOFF_S = 0.05
_LONGEST_BACKOFF_S = 2.0

log = structlog.get_logger("ingest_worker.batching")


class Source(Protocol):
    """Who handed packets over and acknowledges them."""

    name: str

    def stored(self, tokens: Sequence[object]) -> None:
        """These packets are stored, in the order of their arrival: they may be acknowledged now."""
        ...

    def has_room(self) -> None:
        """The pipeline takes packets again after it was full."""
        ...


class Storing(Protocol):
    """What becomes of packets: `site_operations.ingest.Ingest`, as far as the pipeline needs it."""

    @property
    def prepare(self) -> Callable[[RawPacket], PreparedPacket]:
        """Decide what becomes of one packet, as far as that goes without stored state."""
        ...

    def assemble(self, batch: Sequence[PreparedPacket]) -> Callable[[], Awaitable[Stored]]:
        """What of storing a batch needs no database; gives what does it, all or nothing, and raises what says: not now."""
        ...


_Waiting = tuple[Source, object, RawPacket, float]
_Prepared = tuple[Source, object, PreparedPacket, float]
"""Who handed it over, what it wants back, the packet, and when it arrived by `perf_counter`."""


_Assembled = Callable[[], Awaitable[Stored]]
"""A batch that is ready to be stored: calling it stores it, or raises why not now."""


class _Committed(NamedTuple):
    """A batch that is stored and not finished with yet, and how long storing it took."""

    batch: list[_Prepared]
    stored: Stored
    seconds: float


class Pipeline:
    """One per worker, shared by its sources. `run` is the task that works; the rest is called from the same event loop."""

    def __init__(self, ingest: Storing, metrics: IngestMetrics, *, batch_max: int, max_packets: int, max_bytes: int) -> None:
        self._ingest = ingest
        self._metrics = metrics
        self._batch_max = batch_max
        self._max_packets = max_packets
        self._max_bytes = max_bytes
        self._waiting: deque[_Waiting] = deque()
        self._prepared: list[_Prepared] = []
        self._assembled: _Assembled | None = None
        self._storing: list[_Prepared] = []
        self._working = asyncio.TaskGroup()
        self._packets_in_hand = 0
        self._bytes_in_hand = 0
        self._somebody_stopped = False
        self._patience: asyncio.TimerHandle | None = None
        self._takes_long = False
        self._arrived = asyncio.Event()
        self._ready = asyncio.Event()
        self._taken = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._sources: list[Source] = []
        self.trouble: str | None = None
        """Why the database does not take the batch in hand, while it does not."""

    def add_source(self, source: Source, *, held: Callable[[], int] = lambda: 0) -> None:
        """Make a source known, so that it hears of room and its packets are watched; `held` are those that it has not put yet."""
        self._sources.append(source)
        self._metrics.watch(
            source.name,
            in_flight=lambda: float(held() + sum(1 for one in self._in_hand() if one is source)),
            unacknowledged_age_s=self.unacknowledged_age_s,
        )

    @property
    def is_full(self) -> bool:
        """Whether the bound of packets or bytes in hand is reached."""
        return self._packets_in_hand >= self._max_packets or self._bytes_in_hand >= self._max_bytes

    @property
    def has_enough(self) -> bool:
        """Whether more would only wait: the bounds are reached, or two batches while the database takes one after the other."""
        return (len(self._waiting) >= 2 * self._batch_max and not self._takes_long) or self.is_full

    def put(self, source: Source, token: object, raw: RawPacket) -> None:
        """Take a packet. `token` comes back to the source when the packet is stored."""
        self._waiting.append((source, token, raw, perf_counter()))
        self._packets_in_hand += 1
        self._bytes_in_hand += len(raw.body)
        if not self._arrived.is_set():
            self._arrived.set()
            self._idle.clear()

    def unacknowledged_age_s(self) -> float:
        """Seconds since the oldest packet in hand arrived; 0 when there is none."""
        for held in (self._storing, self._prepared, self._waiting):
            if held:
                return perf_counter() - held[0][3]
        return 0.0

    async def wait_until_idle(self) -> None:
        """Return when nothing is in hand."""
        await self._idle.wait()

    async def run(self) -> None:
        """Work until cancelled. Cancelling leaves what is in hand unacknowledged."""
        async with self._working as working:
            working.create_task(self._keep_preparing(), name="prepare")
            working.create_task(self._keep_storing(), name="store")

    async def _keep_preparing(self) -> None:
        while True:
            await self._arrived.wait()
            while self._waiting:
                if len(self._prepared) >= self._batch_max:
                    self._assembled = self._assemble(self._prepared)
                    self._taken.clear()
                    await self._taken.wait()
                self._prepare_portion()
                self._ready.set()
                await asyncio.sleep(0)
            self._arrived.clear()

    async def _keep_storing(self) -> None:
        while True:
            await self._ready.wait()
            self._ready.clear()
            while self._prepared:
                self._storing, self._prepared = self._prepared, []
                store, self._assembled = self._assembled or self._assemble(self._storing), None
                self._taken.set()
                committed = await self._store(self._storing, store)
                # A task begins when this one waits: for the database to take the next batch, which is on its way by then.
                self._working.create_task(self._finish(committed), name="finish")
                del store, committed  # its thousands of objects are to be freed there as well
            self._storing = []

    def _prepare_portion(self) -> None:
        waiting, prepared, prepare = self._waiting, self._prepared, self._ingest.prepare
        for _ in range(min(_PORTION, len(waiting), self._batch_max - len(prepared))):
            source, token, raw, since = waiting.popleft()
            prepared.append((source, token, prepare(raw), since))
        if self._somebody_stopped:
            self._tell_of_room()

    def _assemble(self, batch: list[_Prepared]) -> _Assembled:
        return self._ingest.assemble([entry[2] for entry in batch])

    async def _store(self, batch: list[_Prepared], store: _Assembled) -> _Committed:
        """Store a batch, however often that has to be tried."""
        started = perf_counter()
        backoff_s = _FIRST_BACKOFF_S
        while True:
            try:
                stored = await store()
            except Exception as fault:  # whatever it is, an unstored batch must not be acknowledged
                self.trouble = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
                self._lose_patience()
                self._metrics.count_retry()
                log.warning("batch not stored, trying again", packets=len(batch), reason=self.trouble, in_s=round(backoff_s, 2))
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
                backoff_s = min(backoff_s * 2, _LONGEST_BACKOFF_S)
            else:
                self.trouble = None
                self._takes_long = False
                return _Committed(batch, stored, perf_counter() - started)

    async def _finish(self, committed: _Committed) -> None:
        batch = committed.batch
        self._release([entry[2].raw for entry in batch])
        by_source: dict[str, tuple[Source, list[object]]] = {}
        for source, token, _, _ in batch:
            by_source.setdefault(source.name, (source, []))[1].append(token)
        for source, tokens in by_source.values():
            source.stored(tokens)
        self._count(committed.stored.outcome(), batch, committed.seconds)
        if self._somebody_stopped:
            self._tell_of_room()
        if self._somebody_stopped:
            self._be_patient()

    def note_full(self) -> None:
        """A source stopped reading because the pipeline has enough or is full: it hears when there is room."""
        self._somebody_stopped = True
        self._be_patient()

    def _be_patient(self) -> None:
        if self._patience is None and not self._takes_long:
            self._patience = asyncio.get_running_loop().call_later(_PATIENCE_S, self._lose_patience)

    def _lose_patience(self) -> None:
        self._wait_no_more()
        self._takes_long = True
        self._tell_of_room()

    def _tell_of_room(self) -> None:
        """Let sources that stopped go on, if half of what stopped them is gone."""
        in_bounds = self._packets_in_hand < self._max_packets // 2 and self._bytes_in_hand < self._max_bytes // 2
        if not self._somebody_stopped or not in_bounds or not (self._takes_long or len(self._waiting) < self._batch_max):
            return
        self._somebody_stopped = False
        self._wait_no_more()
        for source in self._sources:
            source.has_room()

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _release(self, packets: Sequence[RawPacket]) -> None:
        self._packets_in_hand -= len(packets)
        self._bytes_in_hand -= sum([len(raw.body) for raw in packets])
        if not self._packets_in_hand:
            self._idle.set()

    def _in_hand(self) -> list[Source]:
        return [entry[0] for held in (self._storing, self._prepared, self._waiting) for entry in held]

    def _count(self, outcome: BatchOutcome, batch: Sequence[_Prepared], commit_s: float) -> None:
        duration_s = perf_counter() - batch[0][3]
        by_source: dict[str, dict[str, int]] = {}
        for (source, summary), packets in outcome.packets.items():
            by_source.setdefault(source, {})[summary] = packets
        for source, outcomes in by_source.items():
            self._metrics.count_batch(source, outcomes, duration_s=duration_s, commit_s=commit_s)
        self._metrics.count_dead_letters(outcome.dead_letters)
        self._metrics.count_causes(outcome.causes)
        self._metrics.count_remediations(outcome.remediations)
        if outcome.heartbeats_lost:
            self._metrics.count_heartbeat_losses(outcome.heartbeats_lost)
