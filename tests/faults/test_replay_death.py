"""A replay that is killed again and again ends in the state of one that was not."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from tests.faults.load import Stack, sized
from tests.real_services.comparison import FaultReport
from tests.real_services.packet_plan import Mixture
from tests.real_services.sites import rows
from tests.real_services.waiting import until

from event_store.database import open_pool
from event_store.store import PostgresEventStore
from microgrid.directory import SiteDirectory
from operator_cli.embedded_postgres import EmbeddedPostgres
from sensor_packet.packet import ClaimedIdentity
from sensor_packet.topics import mqtt_packet_topic
from site_operations.ingest import Ingest, RawPacket

Note = Callable[[FaultReport], FaultReport]

_LETTERS = sized(2_000, 10_000)
_KILLS = sized(4, 12)
_EVENTS = """
SELECT event_id::text, event_type, stream_id, subject, history_only, observed_at, sent_at, source_event_ref, payload, metadata
FROM event_store ORDER BY event_id
"""
_LETTERS_LEFT = """
SELECT dead_letter_id::text, status, reason_code, stage, failed_actions, body, received_at, first_failed_at FROM dead_letter
ORDER BY dead_letter_id
"""
_DONE_LETTERS = "SELECT dead_letter_id::text, attempts FROM dead_letter WHERE status = 'REPLAYED' ORDER BY dead_letter_id"


async def _fill(stack: Stack) -> None:
    """Let packets of the fleet, a few of them poison, fail as they do where no device is configured."""
    received_at = datetime.now(UTC)
    pool = await open_pool(stack.database_url, "tests")
    store = PostgresEventStore(pool)
    ingest = Ingest(store, SiteDirectory(), lambda: received_at)
    packets = stack.plan(_LETTERS, seed=7, mixture=Mixture(poison=0.02, duplicate=0.05))
    prepared = [
        ingest.prepare(
            RawPacket(
                one.body,
                "mqtt",
                mqtt_packet_topic(one.sender.gateway_id, one.sender.device_id),
                ClaimedIdentity(one.sender.gateway_id, one.sender.device_id),
                received_at,
            )
        )
        for one in packets
    ]
    for start in range(0, len(prepared), 1_000):
        await ingest.store(prepared[start : start + 1_000])
    await pool.close()


def _replay(url: str, *, rate: str = "100000/s") -> subprocess.Popen[bytes]:
    wanted = ("--database-url", url, "--rate", rate, "--json")
    command = (sys.executable, "-m", "operator_cli", "dead-letter", "replay", *wanted)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


async def _finished(url: str) -> dict[str, Any]:
    out, err = await asyncio.to_thread(_replay(url).communicate, timeout=300)
    assert out, err.decode()
    return msgspec.json.decode(out)


async def _state(url: str) -> list[list[tuple[Any, ...]]]:
    return [[tuple(row) for row in await rows(url, query)] for query in (_EVENTS, _LETTERS_LEFT, _DONE_LETTERS)]


async def _count(url: str) -> tuple[int, int]:
    """Letters done, and events stored."""
    (found,) = await rows(
        url, "SELECT (SELECT count(*) FROM dead_letter WHERE status = 'REPLAYED'), (SELECT count(*) FROM event_store)"
    )
    return found[0], found[1]


def _report(waiting: int, expected: list[list[tuple[Any, ...]]], state: list[list[tuple[Any, ...]]]) -> FaultReport:
    """The figures of a killed replay beside those of an undisturbed one; events and letters begin with their ids."""
    (events, letters, _), (wanted, wanted_letters, _) = state, expected
    ids, wanted_ids = {event[0] for event in events}, {event[0] for event in wanted}
    return FaultReport(
        fault=f"replay of all dead letters kill -9 ×{_KILLS}, then twice",
        confirmed=waiting,
        stored=len(ids),
        dead_letters=sum(letter[1] == "PENDING" for letter in letters),
        lost=len(wanted_ids - ids),
        duplicates=len(events) - len(ids & wanted_ids),
        inversions=0,
        dead_letters_wrong=len(set(map(repr, letters)) ^ set(map(repr, wanted_letters))),
    )


async def test_a_replay_killed_at_random_moments_and_run_again_twice_ends_as_an_undisturbed_one(
    stack: Stack, own_postgres: EmbeddedPostgres, note: Note
) -> None:
    await _fill(stack)
    waiting = len(await rows(stack.database_url, "SELECT FROM dead_letter WHERE status = 'PENDING'"))
    twin_name = f"{stack.database_url.rpartition('/')[2]}_twin"
    twin_url = own_postgres.create_database(twin_name, template=stack.database_url.rpartition("/")[2])
    began = time.monotonic()
    undisturbed = await _finished(twin_url)
    took_s = time.monotonic() - began
    expected = await _state(twin_url)
    assert undisturbed["outcomes"]["STORED"] > 0.9 * _LETTERS
    chance = random.Random(11)
    for _ in range(_KILLS):
        # It spends a part of its time on starting; the moments are to be all over the rest, too.
        child = _replay(stack.database_url)
        await asyncio.sleep(took_s * chance.uniform(0.2, 1.0))
        child.kill()
        child.communicate()
        done, stored = await _count(stack.database_url)
        # Whatever is done has its events, and nothing else has.
        assert stored <= done
    await _finished(stack.database_url)
    again = await _finished(stack.database_url)
    ended = await _state(stack.database_url)
    report = note(_report(waiting, expected, ended))
    assert report.flawless, report.row()
    assert ended == expected
    assert set(again["outcomes"]) <= {"DEAD_LETTERED", "NOT_REPLAYABLE"}
    own_postgres.drop_database(twin_name)


async def test_a_database_that_dies_under_a_replay_leaves_each_letter_done_or_waiting(
    stack: Stack, own_postgres: EmbeddedPostgres
) -> None:
    await _fill(stack)
    child = _replay(stack.database_url, rate="100/s")
    ending = asyncio.create_task(asyncio.to_thread(child.communicate, timeout=300))

    async def has_begun() -> bool:
        assert child.poll() is None
        return (await _count(stack.database_url))[0] > 0

    await until(has_begun, "the replay begins", timeout_s=60)
    own_postgres.kill9()
    out, err = await ending
    assert (child.returncode, out) == (1, b"")
    assert b"run the same again to go on" in err
    own_postgres.start()
    done, stored = await _count(stack.database_url)
    assert 0 < stored <= done < _LETTERS
    ended = await _finished(stack.database_url)
    assert ended["done"] + done >= _LETTERS
