"""`depotgrid dead-letter replay` and `discard`: on the database itself, by the same code as the command API's jobs.

What is done stays done, whatever ends the command; the same command again does the rest. Both leave rows of audit: one when they
begin, one when they end.
"""

from __future__ import annotations

import getpass
import json
import re
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import uvloop
from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from event_store.database import UNREACHABLE, DatabaseFault, Pool, address, open_pool
from event_store.dead_letters import DeadLetter, DeadLetterFilter, discard_letters
from event_store.store import PostgresEventStore, Transactions
from microgrid.directory import SiteDirectory
from operator_cli.dead_letter_topic import letters_of_topic
from operator_cli.output import complain, say, show_json, show_table
from operator_cli.places import (
    DEFAULT_DATA_DIR,
    AsJson,
    DatabaseUrl,
    DataDir,
    UsageFault,
    find_database,
    read_run_file,
    settings_or_fault,
)
from operator_cli.site_commands import now
from sensor_packet.timestamps import parse_timestamp
from site_operations.ingest import DEAD_LETTERED, Ingest
from site_operations.replay import BATCH, NOT_REPLAYABLE, LetterReport, Replay, walk
from site_operations.replay_topic import still_to_replay
from site_registry.change_feed import ChangeFollower
from site_registry.command_trail import put_audit

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_TOLD = 10_000
"""Letters of which it is told one by one what became of them, at most."""
_LISTED = 20
_DISCARDED_AT_ONCE = 1_000
_MEANING = {
    "STORED": "events that were not there before",
    "DUPLICATE": "its events were there already",
    "IGNORED": "nothing is configured for its values",
    DEAD_LETTERED: "fails again; waits as before, with one more attempt",
    NOT_REPLAYABLE: "its bytes are not all there; waits as before",
}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which pending letters are meant; all where nothing is said."""

    ids: Annotated[tuple[str, ...], Parameter(name="--id", help="a letter's id; may be repeated")] = ()
    reason: Annotated[str | None, Parameter(name=["--reason", "--reason-code"], help="such as NO_POWER_SOURCE")] = None
    stage: Annotated[str | None, Parameter(help="DECODE, VALIDATE, AUTHORISE, ROUTE or APPLY")] = None
    depot: Annotated[str | None, Parameter(name=["--depot", "--depot-id"])] = None
    gateway: Annotated[str | None, Parameter(name=["--gateway", "--gateway-id"])] = None
    device: Annotated[str | None, Parameter(name=["--device", "--device-id"])] = None
    since: Annotated[str | None, Parameter(help="last failed at or after; RFC 3339 with an offset")] = None
    until: Annotated[str | None, Parameter(help="last failed before")] = None

    @property
    def is_narrow(self) -> bool:
        """Whether anything is said."""
        return self != Wanted()

    def filter(self) -> DeadLetterFilter:
        """The letters meant; UsageFault where that can not be."""
        wrong = [one for one in self.ids if not _UUID.fullmatch(one)]
        if wrong:
            raise UsageFault(f"--id: {wrong[0]!r} is no letter's id; `depotgrid dead-letter list` shows them")
        return DeadLetterFilter(
            reason_code=self.reason,
            stage=self.stage,
            depot_id=self.depot,
            gateway_id=self.gateway,
            device_id=self.device,
            since=_moment("--since", self.since),
            until=_moment("--until", self.until),
            dead_letter_ids=frozenset(one.lower() for one in self.ids) or None,
        )


_ANY = Wanted()


def replay(
    wanted: Wanted = _ANY,
    *,
    limit: Annotated[int | None, Parameter(help="at most so many")] = None,
    rate: Annotated[str | None, Parameter(help="at most so many per second, such as 50/s")] = None,
    dry_run: Annotated[bool, Parameter(name="--dry-run", negative="", help="only tell what would happen to each")] = False,
    from_topic: Annotated[
        bool, Parameter(name="--from-topic", negative="", help="read the letters from the Kafka dead-letter topic")
    ] = False,
    kafka: Annotated[str | None, Parameter(help="Kafka brokers; else DEPOTGRID_KAFKA_BOOTSTRAP_SERVERS")] = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> int:
    """Put dead letters through the pipeline again, as received when they were."""
    if limit is not None and limit < 1:
        raise UsageFault(f"--limit: {limit} is no number of letters; give 1 or more")
    servers = _kafka(kafka, data_dir) if from_topic else None
    asked = _Asked(wanted.filter(), limit, _rate(rate), dry_run=dry_run, kafka=servers)
    url = find_database(database_url, data_dir)
    result = uvloop.run(_replay(url, asked, settings_or_fault().max_clock_ahead_s))
    if as_json:
        show_json(result.document())
    else:
        _show(result)
    return 0 if dry_run or not (result.outcomes[DEAD_LETTERED] or result.outcomes[NOT_REPLAYABLE]) else 1


def discard(
    wanted: Wanted = _ANY,
    *,
    why: Annotated[str, Parameter(help="kept with each letter")],
    everything: Annotated[bool, Parameter(name="--all", negative="", help="every pending letter")] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> int:
    """Give pending letters up for good; they stay, with who, when and why."""
    if not why.strip():
        raise UsageFault("--why: is empty; say why these letters need not be replayed")
    if not wanted.is_narrow and not everything:
        raise UsageFault("discard: say which letters, such as --id or --reason, or --all")
    discarded = uvloop.run(_discard(find_database(database_url, data_dir), wanted.filter(), why))
    if as_json:
        show_json({"discarded": discarded})
    else:
        say(f"{discarded} dead letters discarded")
    return 0


@dataclass(frozen=True)
class _Asked:
    wanted: DeadLetterFilter
    limit: int | None = None
    rate_per_s: float | None = None
    dry_run: bool = False
    kafka: str | None = None

    def told(self) -> bytes:
        """What is kept of it for audit."""
        said: dict[str, object] = {name: getattr(self.wanted, name) for name in self.wanted.__struct_fields__}
        said["dead_letter_ids"] = sorted(self.wanted.dead_letter_ids or ()) or None
        said |= {"limit": self.limit, "rate_per_s": self.rate_per_s, "dry_run": self.dry_run or None}
        said |= {"from_topic": True if self.kafka is not None else None}
        return json.dumps({name: value for name, value in said.items() if value is not None}, default=str).encode()


class _Result:
    def __init__(self, *, dry_run: bool, total: int) -> None:
        self.dry_run = dry_run
        self.total = total
        self.done = 0
        self.outcomes: Counter[str] = Counter()
        self.letters: list[LetterReport] = []

    def add(self, reports: Sequence[LetterReport]) -> None:
        self.done += len(reports)
        self.outcomes.update(report.outcome for report in reports)
        self.letters.extend(reports[: max(0, _TOLD - len(self.letters))])

    def document(self) -> dict[str, Any]:
        letters = [_told(report) for report in self.letters]
        return {
            "dry_run": self.dry_run,
            "total": self.total,
            "done": self.done,
            "outcomes": dict(self.outcomes),
            "letters": letters,
        }


async def _replay(url: str, asked: _Asked, max_ahead_s: float) -> _Result:
    begun_at = now()
    async with _pool(url) as pool:
        store = PostgresEventStore(pool)
        await _audit(pool, "replay", 202, asked.told())
        directory = SiteDirectory()
        follower = ChangeFollower(directory)
        async with pool.acquire() as connection:
            await follower.load_all(connection)
        ingest = Ingest(store, directory, now, max_ahead_s)
        waiting = await store.count_waiting(asked.wanted, begun_at)
        result = _Result(dry_run=asked.dry_run, total=waiting if asked.limit is None else min(waiting, asked.limit))
        async with _transactions(store, dry_run=asked.dry_run) as transactions:
            replaying = Replay(store, transactions, ingest, now, _who())
            with _progress(None if asked.kafka is not None else result.total) as show:
                async for reports in _batches(replaying, store, asked, begun_at):
                    result.add(reports)
                    show(result.done)
                    async with pool.acquire() as connection:
                        await follower.catch_up(connection)
        if asked.kafka is not None:
            result.total = result.done
        await _audit(pool, "replay", 200, json.dumps({"done": result.done, "outcomes": result.outcomes}).encode())
        return result


async def _batches(
    replaying: Replay, store: PostgresEventStore, asked: _Asked, begun_at: datetime
) -> AsyncGenerator[list[LetterReport]]:
    if asked.kafka is None:
        walking = walk(replaying, store, asked.wanted, begun_at=begun_at, most=asked.limit, rate_per_s=asked.rate_per_s)
        async for reports in walking:
            yield reports
        return
    seen: set[str] = set()
    batch: list[DeadLetter] = []
    async for letter in letters_of_topic(asked.kafka, asked.wanted):
        # A letter is there once for each attempt.
        if letter.dead_letter_id in seen or (asked.limit is not None and len(seen) >= asked.limit):
            continue
        seen.add(letter.dead_letter_id)
        batch.append(letter)
        if len(batch) >= BATCH:
            yield await replaying.batch(await still_to_replay(store, batch), restore=True)
            batch = []
    if batch:
        yield await replaying.batch(await still_to_replay(store, batch), restore=True)


async def _discard(url: str, wanted: DeadLetterFilter, why: str) -> int:
    async with _pool(url) as pool:
        told = _Asked(wanted).told()
        await _audit(pool, "discard", 202, told)
        discarded = 0
        while True:
            async with pool.acquire() as connection, connection.transaction():
                some = await discard_letters(connection, wanted, why=why, by=_who(), at=now(), limit=_DISCARDED_AT_ONCE)
            discarded += some
            if some < _DISCARDED_AT_ONCE:
                break
        await _audit(pool, "discard", 200, json.dumps({"why": why, "discarded": discarded}).encode())
        return discarded


@asynccontextmanager
async def _transactions(store: PostgresEventStore, *, dry_run: bool) -> AsyncGenerator[Transactions]:
    if not dry_run:
        yield store
        return
    async with store.trial() as trial:
        yield trial


@asynccontextmanager
async def _pool(url: str) -> AsyncGenerator[Pool]:
    pool = await open_pool(url, "depotgrid-dead-letter", max_size=3)
    try:
        yield pool
    except UNREACHABLE as fault:
        reason = str(fault) or type(fault).__name__
        raise DatabaseFault(
            f"the database at {address(url)} went away: {reason}; what is done stays done, run the same again to go on"
        ) from fault
    finally:
        pool.terminate()


async def _audit(pool: Pool, command: str, status: int, told: bytes) -> None:
    async with pool.acquire() as connection:
        await put_audit(
            connection,
            at=now(),
            principal=_who(),
            method="RUN",
            path=f"depotgrid dead-letter {command}",
            status=status,
            code=None,
            idempotency_key=None,
            request=told,
        )


def _who() -> str:
    """The person at this machine, told apart from those whom an issuer knows."""
    try:
        return f"shell:{getpass.getuser()}"
    except (OSError, KeyError):
        return "shell"


@contextmanager
def _progress(total: int | None) -> Generator[Callable[[int], None]]:
    columns = (TextColumn("dead letters"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("dead letters", total=total)
        yield lambda done: bar.update(task, completed=done, total=None if total is None else max(done, total))


def _show(result: _Result) -> None:
    if result.dry_run and result.letters:
        rows = [(one.dead_letter_id, one.outcome, one.code, "; ".join(_difference(one)) or one.detail) for one in result.letters]
        show_table(("dead_letter_id", "outcome", "code", "difference"), rows)
        say("")
    show_table(
        ("outcome", "letters", "meaning"),
        [(outcome, count, _MEANING.get(outcome)) for outcome, count in sorted(result.outcomes.items())],
    )
    if result.dry_run:
        say("a trial: nothing was stored")
        return
    failed = [one for one in result.letters if one.code is not None]
    for one in failed[:_LISTED]:
        complain(f"{one.dead_letter_id}: {one.code}: {one.detail}")
    if len(failed) > _LISTED:
        complain(f"… and {len(failed) - _LISTED} more; --json names all of them")


def _difference(report: LetterReport) -> list[str]:
    return [
        f"{change.event_type} of {change.subject}" + (", the latest from now on" if change.is_latest else ", history only")
        for change in report.difference
    ]


def _told(report: LetterReport) -> dict[str, Any]:
    actions = [{name: getattr(one, name) for name in one.__struct_fields__} for one in report.actions]
    difference = [{name: getattr(one, name) for name in one.__struct_fields__} for one in report.difference]
    return {
        "dead_letter_id": report.dead_letter_id,
        "outcome": report.outcome,
        "code": report.code,
        "detail": report.detail,
        "actions": actions,
        "difference": difference,
    }


def _moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    moment = parse_timestamp(text)
    if moment is None:
        raise UsageFault(f"{option}: {text!r} is no RFC 3339 time with an offset; give 2026-11-21T06:00:00Z")
    return moment


def _rate(text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)(?:/s)?", text)
    if found is None or float(found[1]) < 0.1:
        raise UsageFault(f"--rate: {text!r} is no rate; give letters per second such as 50/s, at least 0.1/s")
    return float(found[1])


def _kafka(told: str | None, data_dir: Path) -> str:
    servers = settings_or_fault(kafka_bootstrap_servers=told).kafka_bootstrap_servers
    if servers is None and (run := read_run_file(data_dir)) is not None:
        servers = run.kafka_bootstrap_servers
    if servers is None:
        raise UsageFault("--from-topic: no Kafka: give --kafka or DEPOTGRID_KAFKA_BOOTSTRAP_SERVERS")
    return servers
