"""What publishers were promised against what the database holds: lost, doubled, out of order, refused, and how soon it is back."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import hashlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import asyncpg
from tests.real_services.packet_plan import NumberedPacket
from tests.real_services.sites import rows
from tests.real_services.waiting import until

_SAMPLE_S = 0.1
_MOST_SAMPLES = 36_000
_WINDOW_S = 0.5
_BEFORE_S = 1.0


@dataclass(frozen=True)
class FaultReport:
    """Figures of one fault run.

    `confirmed` are the packets that the broker answered for, a repeat counted again; `stored` those that are in the event store,
    each counted once. `recovered_s`: from the fault's end to 90 % of the rate before it; None where not measured.
    """

    fault: str
    confirmed: int
    stored: int
    dead_letters: int
    lost: int
    duplicates: int
    inversions: int
    dead_letters_wrong: int
    recovered_s: float | None = None

    @staticmethod
    def header() -> str:
        """Names of the columns of `row`."""
        return (
            f"{'fault':<58} {'confirmed':>9} {'stored':>9} {'letters':>7} {'lost':>5} {'twice':>5} {'inverted':>8} "
            f"{'wrong':>5} {'back in s':>9}"
        )

    def row(self) -> str:
        """The figures as one line."""
        back = "" if self.recovered_s is None else f"{self.recovered_s:.1f}"
        return (
            f"{self.fault:<58} {self.confirmed:>9} {self.stored:>9} {self.dead_letters:>7} {self.lost:>5} {self.duplicates:>5} "
            f"{self.inversions:>8} {self.dead_letters_wrong:>5} {back:>9}"
        )

    @staticmethod
    def together(fault: str, reports: Sequence[FaultReport]) -> FaultReport:
        """Runs side by side as one: sums, and the slowest recovery (None where one of them did not recover)."""
        back = [report.recovered_s for report in reports]
        return FaultReport(
            fault=fault,
            confirmed=sum(report.confirmed for report in reports),
            stored=sum(report.stored for report in reports),
            dead_letters=sum(report.dead_letters for report in reports),
            lost=sum(report.lost for report in reports),
            duplicates=sum(report.duplicates for report in reports),
            inversions=sum(report.inversions for report in reports),
            dead_letters_wrong=sum(report.dead_letters_wrong for report in reports),
            recovered_s=None if None in back else max(one for one in back if one is not None),
        )

    @property
    def flawless(self) -> bool:
        """Nothing lost, nothing twice, nothing out of order, and every dead letter as it should be."""
        return not (self.lost or self.duplicates or self.inversions or self.dead_letters_wrong)


async def compare(
    database_url: str,
    fault: str,
    planned: Sequence[NumberedPacket],
    confirmed: Sequence[NumberedPacket],
    *,
    letter_per_copy: bool = False,
) -> FaultReport:
    """Hold the database against what the broker confirmed. Good packets must have one event each, bad ones one dead letter.

    With `letter_per_copy` a bad packet has one for each time it was sent: Kafka's position tells its copies apart.
    """
    copies = Counter((_digest(packet), packet.code) for packet in confirmed if packet.code is not None)
    events = await rows(
        database_url,
        "SELECT source_event_ref, payload ->> 'device_id' AS device_id FROM event_store "
        "WHERE source_event_ref IS NOT NULL ORDER BY transaction_id, global_position",
    )
    letters = Counter(
        (row["body_sha256"], row["reason_code"])
        for row in await rows(database_url, "SELECT body_sha256, reason_code FROM dead_letter")
    )
    number_of = {packet.packet_id: packet.number for packet in planned}
    stored = {row["source_event_ref"] for row in events}
    refused = {_digest(packet): packet.code for packet in planned if packet.code is not None}
    lost = sum(
        packet.packet_id not in stored if packet.code is None else (_digest(packet), packet.code) not in letters
        for packet in {packet.number: packet for packet in confirmed}.values()
    )
    return FaultReport(
        fault=fault,
        confirmed=len(confirmed),
        stored=len(stored),
        dead_letters=sum(letters.values()),
        lost=lost,
        duplicates=len(events) - len(stored),
        inversions=_inversions([(row["device_id"], number_of[row["source_event_ref"]]) for row in events]),
        dead_letters_wrong=sum(
            count if refused.get(digest) != code else max(0, count - (copies[digest, code] if letter_per_copy else 1))
            for (digest, code), count in letters.items()
        ),
    )


def _digest(packet: NumberedPacket) -> str:
    return hashlib.sha256(packet.body).hexdigest()


def _inversions(sequence: Sequence[tuple[str, int]]) -> int:
    last: dict[str, int] = {}
    inverted = 0
    for device_id, number in sequence:
        inverted += number < last.get(device_id, 0)
        last[device_id] = number
    return inverted


async def all_arrived(database_url: str, confirmed: Sequence[NumberedPacket], *, timeout_s: float = 120.0) -> None:
    """Wait until as many events and dead letters are stored as packets were confirmed; AssertionError after `timeout_s`."""
    good = len({packet.number for packet in confirmed if packet.code is None})
    bad = len({packet.number for packet in confirmed if packet.code is not None})
    found = (0, 0)

    async def arrived() -> bool:
        nonlocal found
        with contextlib.suppress(OSError, asyncpg.PostgresError):
            (counts,) = await rows(database_url, "SELECT (SELECT count(*) FROM event_store), (SELECT count(*) FROM dead_letter)")
            found = (counts[0], counts[1])
        return found[0] >= good and found[1] >= bad

    try:
        await until(arrived, "everything confirmed is stored", timeout_s=timeout_s)
    except AssertionError as fault:
        raise AssertionError(f"{fault}: {found[0]} of {good} events, {found[1]} of {bad} dead letters") from None


class Progress:
    """The worker's rate over time, sampled from the positions that the store dealt out."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._positions: list[int] = []

    def rate_before(self, moment: float) -> float:
        """Packets per second in the second before a moment (of `time.monotonic`)."""
        return self._rate(moment - _BEFORE_S, moment)

    def recovered_s(self, ended: float, rate: float) -> float | None:
        """Seconds from `ended` to the end of the first half second in which 90 % of `rate` were reached; None if never."""
        for at in self._times[bisect.bisect_left(self._times, ended + _WINDOW_S) :]:
            if self._rate(at - _WINDOW_S, at) >= 0.9 * rate:
                return at - ended
        return None

    def note(self, position: int) -> None:
        """Take a sample."""
        if len(self._times) < _MOST_SAMPLES:
            self._times.append(time.monotonic())
            self._positions.append(max(position, self._positions[-1]) if self._positions else position)

    def _rate(self, since: float, until_: float) -> float:
        return (self._position(until_) - self._position(since)) / (until_ - since)

    def _position(self, moment: float) -> int:
        """The last one known at a moment: where nothing could be asked, nothing could be stored either."""
        known = bisect.bisect_right(self._times, moment)
        return self._positions[known - 1] if known else 0


@contextlib.asynccontextmanager
async def watched(database_url: str) -> AsyncGenerator[Progress]:
    """Sample the worker's progress while the context lasts, also across the database's outages."""
    progress = Progress()
    sampling = asyncio.create_task(_sample(database_url, progress))
    try:
        yield progress
    finally:
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)


async def _sample(database_url: str, progress: Progress) -> None:
    while True:
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection = await asyncpg.connect(database_url, timeout=2)
            try:
                while True:
                    position = await connection.fetchval(
                        "SELECT global_position FROM event_store ORDER BY transaction_id DESC, global_position DESC LIMIT 1",
                        timeout=2,
                    )
                    progress.note(position or 0)
                    await asyncio.sleep(_SAMPLE_S)
            finally:
                connection.terminate()
        await asyncio.sleep(_SAMPLE_S)
