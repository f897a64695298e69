"""Backfilling a fleet: each depot by itself, as often as one likes, whatever stops it, and told by outcome."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import asyncpg
import pytest
from tests.real_services.waiting import until
from tests.site_operations.depots import (
    add_circuit,
    add_depot,
    add_feed,
    counts,
    event_types,
    fresh_id,
    microgrid_of,
    stored_events,
    until_somebody_waits,
)

from event_store.database import UNREACHABLE, Pool, open_pool
from operator_cli.main import run
from site_operations import backfill as backfilling
from site_operations.backfill import BackfillSummary, Progress, backfill
from site_operations.provision_microgrid import provision_microgrid
from site_registry.write import lock_depot

_NOW = datetime(2026, 11, 20, 21, 0, tzinfo=UTC)
_COMMAND = [sys.executable, "-m", "operator_cli", "microgrid", "backfill", "--json", "--database-url"]


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, "test", max_size=8)
    yield opened
    await opened.close()


async def _backfill(
    pool: Pool, *, dry_run: bool = False, seen: list[Progress] | None = None, lock_wait_s: float = 20.0
) -> BackfillSummary:
    return await backfill(
        pool,
        dry_run=dry_run,
        now=_NOW,
        new_id=fresh_id,
        progress=(seen if seen is not None else []).append,
        lock_wait_s=lock_wait_s,
    )


async def _fleet(pool: Pool, depots: int) -> None:
    for number in range(depots):
        await add_circuit(pool, f"d-{number:03d}", f"gc-{number:03d}")


async def _mixed(pool: Pool) -> None:
    """Two to provision, one with its microgrid, three without a circuit to make one of."""
    await add_circuit(pool, "d-1", "gc-1")
    await add_circuit(pool, "d-1", "k-1", parent="gc-1")
    await add_feed(pool, "d-1", "ctrl", "DER", "DER")
    await add_circuit(pool, "d-2", "gc-2")
    await add_circuit(pool, "has", "gc-has")
    await provision_microgrid(pool, "has", now=_NOW, new_id=fresh_id)
    await add_depot(pool, "bare")
    await add_circuit(pool, "below", "k-below", parent="gc-1")
    await add_circuit(pool, "unnamed", "gc-unnamed", name=" \u2003")


_OUTCOMES = {"PROVISIONED": 2, "ALREADY_PROVISIONED": 1, "NO_TOP_LEVEL_CIRCUIT": 3, "DELETED_MEANWHILE": 0, "FAILED": 0}


async def test_every_depot_with_a_circuit_at_the_top_gets_its_microgrid_and_the_others_are_told(pool: Pool) -> None:
    await _mixed(pool)
    seen: list[Progress] = []
    summary = await _backfill(pool, seen=seen)
    assert summary == BackfillSummary(False, _OUTCOMES, ("bare", "below", "unnamed"), ())
    assert not summary.failed
    assert [row[0] for row in await pool.fetch("SELECT depot_id FROM microgrid ORDER BY 1")] == ["d-1", "d-2", "has"]
    assert [point.device_id for point in (await microgrid_of(pool, "d-1")).control_points] == ["ctrl"]
    assert sorted(await event_types(pool)) == ["ControllerBindingCreated", *["MicrogridProvisioned"] * 3]
    assert [(one.done, one.total) for one in seen] == [(number, 6) for number in range(7)]


async def test_a_trial_tells_the_same_and_changes_nothing(pool: Pool) -> None:
    await _mixed(pool)
    before = await counts(pool)
    summary = await _backfill(pool, dry_run=True)
    assert summary == BackfillSummary(True, _OUTCOMES, ("bare", "below", "unnamed"), ())
    assert await counts(pool) == before


async def test_a_second_run_changes_nothing(pool: Pool) -> None:
    await _mixed(pool)
    await _backfill(pool)
    before = await counts(pool)
    summary = await _backfill(pool)
    assert summary.outcomes == {**_OUTCOMES, "PROVISIONED": 0, "ALREADY_PROVISIONED": 3}
    assert await counts(pool) == before


async def test_no_depot_is_left_out_at_the_end_of_a_page(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfilling, "_PAGE", 3)
    await _fleet(pool, 10)
    found = (await _backfill(pool)).outcomes
    assert (found["PROVISIONED"], sum(found.values())) == (10, 10)
    assert (await counts(pool))["microgrid"] == 10


async def test_an_empty_database_has_nothing_to_do(pool: Pool) -> None:
    assert set((await _backfill(pool)).outcomes.values()) == {0}


async def test_two_runs_at_once_make_each_microgrid_once(pool: Pool) -> None:
    await _fleet(pool, 30)
    summaries = await asyncio.gather(_backfill(pool), _backfill(pool))
    assert sum(one.outcomes["PROVISIONED"] for one in summaries) == 30
    assert sum(one.outcomes["ALREADY_PROVISIONED"] for one in summaries) == 30
    assert (await event_types(pool)) == ["MicrogridProvisioned"] * 30


async def test_one_connection_is_enough(database_url: str, pool: Pool) -> None:
    await _fleet(pool, 5)
    narrow = await open_pool(database_url, "test", max_size=1)
    try:
        assert (await _backfill(narrow)).outcomes["PROVISIONED"] == 5
    finally:
        await narrow.close()


async def test_a_depot_that_can_not_be_provisioned_fails_alone(pool: Pool, database_url: str) -> None:
    await _fleet(pool, 5)
    await _spoil(database_url)
    summary = await _backfill(pool)
    assert summary.failed
    assert (summary.outcomes["PROVISIONED"], summary.outcomes["FAILED"]) == (4, 1)
    assert [(one.depot_id, one.reason) for one in summary.failures] == [("d-002", "not this one")]
    assert await pool.fetchval("SELECT count(*) FROM microgrid WHERE depot_id = 'd-002'") == 0


async def test_a_depot_that_somebody_keeps_locked_holds_up_no_other_and_is_told(pool: Pool) -> None:
    await _fleet(pool, 20)
    async with pool.acquire() as holder, holder.transaction():
        await lock_depot(holder, "d-003")
        running = asyncio.create_task(_backfill(pool, lock_wait_s=2))

        async def all_others() -> bool:
            return await pool.fetchval("SELECT count(*) FROM microgrid") == 19

        await until(all_others, "the other depots have their microgrids", timeout_s=60)
        summary = await running
    assert [one.depot_id for one in summary.failures] == ["d-003"]
    assert "lock timeout" in summary.failures[0].reason
    assert await pool.fetchval("SHOW lock_timeout") == "0"
    assert (await _backfill(pool)).outcomes["PROVISIONED"] == 1


async def test_a_run_whose_connection_is_cut_ends_with_the_error_and_the_next_one_goes_on(pool: Pool, database_url: str) -> None:
    await _fleet(pool, 30)
    cut = False

    def cut_once(progress: Progress) -> None:
        nonlocal cut
        if progress.done == 10 and not cut:
            cut = True
            own.terminate()

    own = await open_pool(database_url, "test", max_size=4)
    with pytest.raises(UNREACHABLE):
        await backfill(own, dry_run=False, now=_NOW, new_id=fresh_id, progress=cut_once)
    rest = await _backfill(pool)
    assert rest.outcomes["PROVISIONED"] + rest.outcomes["ALREADY_PROVISIONED"] == 30
    assert (await event_types(pool)) == ["MicrogridProvisioned"] * 30


# The command


async def test_after_kill_9_in_the_middle_a_second_run_finishes_and_nothing_is_half_done(pool: Pool, database_url: str) -> None:
    await _fleet(pool, 60)

    async def provisioned() -> int:
        return await pool.fetchval("SELECT count(*) FROM microgrid")

    async def whole() -> None:
        assert await pool.fetchval("SELECT count(*) FROM microgrid_node") == await provisioned()
        events = await stored_events(pool)
        assert len({event.depot_id for event in events}) == len(events) == await provisioned()

    await _halt_before_events(database_url)
    async with pool.acquire() as holder, holder.transaction():
        await holder.execute("SELECT pg_advisory_xact_lock(4711)")
        process = await asyncio.create_subprocess_exec(*_COMMAND, database_url, stdout=subprocess.DEVNULL)
        # Every hand of the run is in the middle of a depot, for as long as we like.
        await until_somebody_waits(holder, backfilling.AT_ONCE)
        process.send_signal(signal.SIGKILL)
        await process.wait()

    async def gone() -> bool:
        return not await pool.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'depotgrid-microgrid'")

    await until(gone, "the dead run's connections are gone", timeout_s=60)
    assert await provisioned() == 25
    await whole()
    again = await asyncio.to_thread(subprocess.run, [*_COMMAND, database_url], check=True, capture_output=True, text=True)
    outcomes = json.loads(again.stdout)["outcomes"]
    assert (outcomes["PROVISIONED"], outcomes["ALREADY_PROVISIONED"]) == (35, 25)
    assert await provisioned() == 60
    await whole()


def test_the_command_tells_the_outcomes_and_ends_with_0(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    _in_pool(database_url, _mixed)
    given = ["--database-url", database_url]
    assert run(["microgrid", "backfill", "--dry-run", *given]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "PROVISIONED           2" in out
    assert "bare, below, unnamed" in out
    assert "nothing was stored" in out
    assert run(["microgrid", "backfill", "--json", *given]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "dry_run": False,
        "outcomes": _OUTCOMES,
        "without_circuit": ["bare", "below", "unnamed"],
        "failures": [],
    }
    assert err == ""


def test_the_command_ends_with_1_where_a_depot_failed(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def spoiled(pool: Pool) -> None:
        await _fleet(pool, 3)
        await _spoil(database_url)

    _in_pool(database_url, spoiled)
    assert run(["microgrid", "backfill", "--database-url", database_url]) == 1
    out, err = capsys.readouterr()
    assert "FAILED                1" in out
    assert err == "depotgrid: depot d-002: not this one\n"


def test_progress_is_shown_on_a_terminal_alone(database_url: str) -> None:
    _in_pool(database_url, _mixed)
    ours, theirs = pty.openpty()
    with subprocess.Popen([*_COMMAND, database_url], stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        shown = b""
        # A terminal keeps 4 kB at a time, and the longer it takes the more is drawn; its end is an error.
        with contextlib.suppress(OSError):
            while some := os.read(ours, 65_536):
                shown += some
        told, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0
    assert b"depots" in shown
    assert b"6/6" in shown
    assert json.loads(told)["outcomes"] == _OUTCOMES


def test_the_repair_command_tells_the_difference(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def drifted(pool: Pool) -> None:
        await _mixed(pool)
        await pool.execute("UPDATE microgrid_node SET name = 'Typo'")

    _in_pool(database_url, drifted)
    given = ["--database-url", database_url]
    for options, told in ((["--dry-run"], "would change"), ([], ": changed"), ([], "nothing to change")):
        assert run(["microgrid", "resync", "has", *options, *given]) == 0
        out = capsys.readouterr().out
        assert told in out
        assert ("was Typo" in out) == (told != "nothing to change")
    assert run(["microgrid", "resync", "has", "--json", *given]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {
        "microgrid_id": answer["microgrid_id"],
        "depot_id": "has",
        "version": 1,
        "status": "ACTIVE",
        "dry_run": False,
        "changed": False,
        "corrected": [],
        "unbound": [],
        "added": [],
        "removed": [],
        "renamed": [],
        "reordered": [],
    }
    for depot, fault in (("nowhere", "no depot is called 'nowhere'"), ("bare", "depot bare has no microgrid")):
        assert run(["microgrid", "resync", depot, *given]) == 1
        assert fault in capsys.readouterr().err
    assert run(["microgrid", "resync", *given]) == 2
    assert "--depot" in capsys.readouterr().err


async def _halt_before_events(database_url: str) -> None:
    """From depot d-025 on, let whoever appends an event wait for the advisory lock 4711."""
    owner = await asyncpg.connect(database_url)
    try:
        await owner.execute("""
            CREATE FUNCTION halt() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN IF NEW.depot_id >= 'd-025' THEN PERFORM pg_advisory_xact_lock(4711); END IF; RETURN NEW; END $$;
            CREATE TRIGGER halt BEFORE INSERT ON event_store FOR EACH ROW EXECUTE FUNCTION halt();
        """)
    finally:
        await owner.close()


async def _spoil(database_url: str) -> None:
    """Let the database refuse a microgrid for depot d-002; only its owner may."""
    owner = await asyncpg.connect(database_url)
    try:
        await owner.execute("""
            CREATE FUNCTION refuse_one() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN IF NEW.depot_id = 'd-002' THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$;
            CREATE TRIGGER refuse_one BEFORE INSERT ON microgrid FOR EACH ROW EXECUTE FUNCTION refuse_one();
        """)
    finally:
        await owner.close()


def _in_pool(database_url: str, work: Callable[[Pool], Awaitable[None]]) -> None:
    async def with_pool() -> None:
        opened = await open_pool(database_url, "test", max_size=2)
        try:
            await work(opened)
        finally:
            await opened.close()

    asyncio.run(with_pool())
