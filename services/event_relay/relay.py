"""Publish the outbox to one broker: read what is next, send it, and move the cursors over what the broker confirmed.

One of these runs for each broker, with cursors of its own, so that a broker that is away holds up no other. Which shares of the
streams are ours, and why several relays at once keep the order in each stream, says `event_store.outbox`. There is no memory
between two rounds: after any fault the next round reads again from the cursors, and what was confirmed meanwhile goes out a
second time under the same id.

Time. A share is ours until its time runs out by the database's clock. We count that time from before we asked for it, and give up
the connection with all that is on its way somewhat earlier, so that two holders overlap only where a process was frozen in
between. That would not break the order either; it spares the readers repetitions.

Waking. A notification for each transaction that puts anything into the outbox, and a poll every second for one that was missed. A
row above an older transaction that still runs can not be announced again: while there is one, the poll begins at a few
milliseconds and grows to that second. A page that was not full and left no such row is not followed by another look.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import datetime

import structlog

from broker_sessions.outgoing import NotPublishedError, Publisher
from event_relay.messages import Broker, outgoing
from event_store.database import UNREACHABLE, Pool
from event_store.outbox import OutboxPage, OutboxPosition, advance, hold_shares, next_entries, release_shares
from service_runtime.metrics import RelayMetrics

log = structlog.get_logger("event_relay")

SHARE_TTL_S = 5.0
_RENEWAL_S = 1.0
_MARGIN_S = 1.0
"""How much sooner than the database we take our time to have run out."""
_PAGE = 500
_SHORTEST_POLL_S = 0.005
_LONGEST_POLL_S = 1.0
_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 5.0
_IDLE_ADVANCE_S = 5.0
"""How often cursors are written that moved over nothing of ours, so that the outbox can be pruned behind them."""


class BrokerRelay:
    """The relay to one broker. `run` works until `stop`, and then until what is in hand is confirmed."""

    def __init__(
        self,
        broker: Broker,
        publisher: Publisher,
        pool: Pool,
        holder: str,
        metrics: RelayMetrics,
        clock: Callable[[], datetime],
    ) -> None:
        self.broker: Broker = broker
        self._publisher = publisher
        self._pool = pool
        self._holder = holder
        self._metrics = metrics
        self._clock = clock
        self._cursors: dict[int, OutboxPosition] = {}
        self._fair = 0
        self._deadline = 0.0
        self._held = asyncio.Event()
        self._lost = asyncio.Event()
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._waiting_since: datetime | None = None
        self._unpublished_since: float | None = None
        self._backoff_s = _FIRST_BACKOFF_S
        self._next_idle_advance = 0.0
        self._one_at_a_time = asyncio.Lock()
        """So that what is given back is not counted as held by an answer that was under way."""
        self._broker_trouble: str | None = None
        self._share_trouble: str | None = None
        metrics.watch(broker, lag_s=self.lag_s, shares=lambda: float(len(self._cursors)))

    @property
    def trouble(self) -> str | None:
        """Why nothing can be published now; nothing of the broker while others have all shares."""
        return self._share_trouble or (self._broker_trouble if self._cursors else None)

    @property
    def holds_shares(self) -> bool:
        """Whether any share is ours to publish."""
        return bool(self._cursors)

    def wake(self) -> None:
        """Something was appended."""
        self._woken.set()

    def stop(self) -> None:
        """Begin no other round."""
        self._stopping.set()
        self._woken.set()
        self._held.set()

    def lag_s(self) -> float:
        """Age of the oldest row that we read and the broker has not confirmed; 0 when there is none."""
        return 0.0 if self._waiting_since is None else max(0.0, (self._clock() - self._waiting_since).total_seconds())

    def stuck_s(self) -> float:
        """Seconds since anything was confirmed, while something is to be; 0 when nothing is."""
        return 0.0 if self._unpublished_since is None else asyncio.get_running_loop().time() - self._unpublished_since

    async def run(self) -> None:
        """Hold shares and publish them; ends after `stop`, or when cancelled, with the shares given back."""
        holding = asyncio.create_task(self._hold(), name=f"{self.broker}-shares")
        publishing = asyncio.create_task(self._publish_rounds(), name=f"{self.broker}-rounds")
        try:
            await asyncio.wait({holding, publishing}, return_when=asyncio.FIRST_COMPLETED)
            for task in (holding, publishing):
                if task.done():
                    task.result()
        finally:
            for task in (holding, publishing):
                task.cancel()
            await asyncio.gather(holding, publishing, return_exceptions=True)
            await self._leave()

    async def _leave(self) -> None:
        await self._publisher.close()
        try:
            async with asyncio.timeout(1):
                await release_shares(self._pool, self.broker, self._holder)
        except UNREACHABLE:
            log.warning("shares not given back, they run out by themselves", broker=self.broker)

    async def _hold(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            patience_s = self._deadline - loop.time() if self._cursors else _RENEWAL_S
            try:
                async with asyncio.timeout(max(0.1, patience_s)):
                    await self._renew()
            except UNREACHABLE as fault:
                self._share_trouble = f"the database does not answer: {str(fault) or type(fault).__name__}"
                if self._cursors and loop.time() >= self._deadline:
                    log.warning("shares not renewed in time, publishing no more", broker=self.broker, reason=self._share_trouble)
                    self._keep({})
            pause_s = _RENEWAL_S
            if self._cursors:
                pause_s = min(pause_s, max(0.05, self._deadline - loop.time()))
            await asyncio.sleep(pause_s)

    async def _renew(self) -> None:
        async with self._one_at_a_time:
            asked = asyncio.get_running_loop().time()
            holding = await hold_shares(self._pool, self.broker, self._holder, SHARE_TTL_S)
            self._deadline = asked + SHARE_TTL_S - _MARGIN_S
            self._fair = holding.fair
            self._share_trouble = None
            self._keep(dict(holding.cursors))

    def _keep(self, cursors: dict[int, OutboxPosition]) -> None:
        """Take over which shares are ours; where a cursor of ours is ahead of the written one, it stays."""
        if self._cursors.keys() - cursors.keys():
            self._lost.set()
        if self._cursors.keys() != cursors.keys():
            log.info("shares held", broker=self.broker, shares=sorted(cursors), fair=self._fair)
        self._cursors = {share: max(at, self._cursors.get(share, at)) for share, at in cursors.items()}
        if cursors:
            self._held.set()
        elif not self._stopping.is_set():
            self._held.clear()
            self._waiting_since = self._unpublished_since = None

    async def _publish_rounds(self) -> None:
        poll_s = _SHORTEST_POLL_S
        while not self._stopping.is_set():
            await self._held.wait()
            if self._stopping.is_set():
                return
            self._lost.clear()
            self._woken.clear()
            try:
                page = await self._round()
            except (NotPublishedError, *UNREACHABLE) as fault:
                await self._back_off(str(fault) or type(fault).__name__)
                continue
            self._broker_trouble = None
            self._backoff_s = _FIRST_BACKOFF_S
            if page is not None and page.entries:
                poll_s = _SHORTEST_POLL_S
                if page.more:
                    continue
            try:
                async with asyncio.timeout(poll_s if page is not None and page.more else _LONGEST_POLL_S):
                    await self._woken.wait()
                poll_s = _SHORTEST_POLL_S
            except TimeoutError:
                poll_s = min(poll_s * 2, _LONGEST_POLL_S)

    async def _back_off(self, reason: str) -> None:
        if reason != self._broker_trouble:
            # Said once and not at every try; `/readyz` goes on saying it.
            log.warning("nothing can be published, trying again", broker=self.broker, reason=reason)
        self._broker_trouble = reason
        self._metrics.count_retry(self.broker)
        pause_s = self._backoff_s * random.uniform(0.5, 1.0)
        self._backoff_s = min(self._backoff_s * 2, _LONGEST_BACKOFF_S)
        try:
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _round(self) -> OutboxPage | None:
        """One page: read, send, move the cursors. Gives the page; None where no share is ours."""
        await self._give_back_surplus()
        cursors = dict(self._cursors)
        if not cursors:
            return None
        async with self._pool.acquire(timeout=SHARE_TTL_S) as connection:
            page = await next_entries(connection, cursors, _PAGE)
        if page.entries:
            since = next((entry.waiting_since for entry in page.entries if entry.waiting_since is not None), None)
            self._waiting_since = since
            if self._unpublished_since is None:
                self._unpublished_since = asyncio.get_running_loop().time()
            await self._send(page, cursors)
        else:
            await self._publisher.open()  # so that a broker that is away is noticed before there is something for it
        await self._advance(cursors, page.end, written=bool(page.entries))
        self._waiting_since = self._unpublished_since = None
        return page

    async def _send(self, page: OutboxPage, cursors: dict[int, OutboxPosition]) -> None:
        """Have all of a page confirmed, while the shares are ours; what is confirmed of it in vain is not sent again."""
        told = [(entry, message) for entry in page.entries if (message := outgoing(entry, self.broker)) is not None]
        publishing = self._publisher.publish([message for _, message in told])
        sending, losing = asyncio.create_task(publishing, name=f"{self.broker}-send"), asyncio.create_task(self._lost.wait())
        try:
            await asyncio.wait({sending, losing}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                raise NotPublishedError(0, "shares went to another relay")
            sending.result()
        except NotPublishedError as fault:
            if fault.confirmed:
                await self._advance(cursors, told[fault.confirmed - 1][0].position, written=True)
                self._unpublished_since = asyncio.get_running_loop().time()
            raise
        finally:
            for task in (sending, losing):
                task.cancel()
            await asyncio.gather(sending, losing, return_exceptions=True)
        letters = sum(entry.event is None for entry, _ in told)
        self._metrics.count_published(self.broker, "event", len(told) - letters)
        self._metrics.count_published(self.broker, "dead-letter", letters)

    async def _advance(self, cursors: dict[int, OutboxPosition], to: OutboxPosition, *, written: bool) -> None:
        now = asyncio.get_running_loop().time()
        if written or now >= self._next_idle_advance:
            moved = await advance(self._pool, self.broker, self._holder, list(cursors), to)
            self._next_idle_advance = now + _IDLE_ADVANCE_S
        else:
            moved = frozenset(cursors)
        for share in moved & self._cursors.keys():
            self._cursors[share] = max(to, self._cursors[share])

    async def _give_back_surplus(self) -> None:
        surplus = sorted(self._cursors)[self._fair :]
        if surplus:
            async with self._one_at_a_time:
                for share in surplus:
                    self._cursors.pop(share, None)
                await release_shares(self._pool, self.broker, self._holder, surplus)
            log.info("shares given back for another relay", broker=self.broker, shares=surplus)
