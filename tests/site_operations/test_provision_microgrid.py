"""Provisioning a depot that is there already: once, whole, and without waiting for other depots."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from tests.site_operations.depots import (
    add_circuit,
    add_depot,
    add_feed,
    counts,
    fresh_id,
    load,
    microgrid_of,
    stored_events,
    until_somebody_waits,
)

from event_store.database import Pool, open_pool
from event_store.remediation import RemediationEntry, put_remediation
from microgrid.site_model import Site
from site_operations.import_site import SiteReport, import_site
from site_operations.provision_microgrid import (
    DepotNotFound,
    NoTopLevelCircuit,
    Provisioned,
    provision_microgrid,
    provision_within,
)
from site_registry.site_file import SiteDocument, parse_site
from site_registry.write import lock_depot

_NOW = datetime(2026, 11, 20, 21, 0, tzinfo=UTC)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, "test", max_size=6)
    yield opened
    await opened.close()


async def _provision(pool: Pool, depot_id: str = "d") -> Provisioned | NoTopLevelCircuit | DepotNotFound:
    return await provision_microgrid(pool, depot_id, now=_NOW, new_id=fresh_id)


async def _made(pool: Pool, depot_id: str = "d") -> Provisioned:
    found = await _provision(pool, depot_id)
    assert isinstance(found, Provisioned)
    assert found.created
    return found


async def test_a_depot_gets_its_microgrid_with_a_node_for_each_named_circuit_at_the_top(pool: Pool) -> None:
    await add_depot(pool, "d")
    await add_circuit(pool, "d", "b", name="B", position=1)
    await add_circuit(pool, "d", "a", name="A", position=1)
    await add_circuit(pool, "d", "first", name="First")
    await add_circuit(pool, "d", "below", name="Below", parent="a")
    await add_circuit(pool, "d", "unnamed", name=" \t")
    await add_circuit(pool, "elsewhere", "other", name="Other")
    made = await _made(pool)
    stored = await microgrid_of(pool)
    assert stored == made.microgrid
    assert (stored.version, stored.status) == (1, "ACTIVE")
    assert [(node.source_circuit_id, node.name, node.position) for node in stored.nodes] == [
        ("first", "First", 0),
        ("a", "A", 1),
        ("b", "B", 1),
    ]
    (event,) = await stored_events(pool)
    assert (event.event_type, event.depot_id, event.microgrid_id) == ("MicrogridProvisioned", "d", stored.microgrid_id)
    assert event.observed_at == _NOW
    assert event.payload["nodes"] == [asdict(node) for node in stored.nodes]
    assert await pool.fetchrow("SELECT created_at, updated_at FROM microgrid") == (_NOW, _NOW)


async def test_a_second_time_answers_with_the_microgrid_that_is_there_and_writes_nothing(pool: Pool) -> None:
    await add_circuit(pool, "d", "gc")
    made = await _made(pool)
    before = await counts(pool)
    assert await _provision(pool) == Provisioned(made.microgrid, created=False)
    assert await counts(pool) == before


@pytest.mark.parametrize("circuit", [None, {"name": ""}, {"name": "  "}, {"parent": "of-another-depot"}])
async def test_a_depot_without_a_valid_circuit_at_the_top_gets_nothing(pool: Pool, circuit: dict[str, Any] | None) -> None:
    await add_depot(pool, "d")
    await add_circuit(pool, "other", "of-another-depot")
    if circuit is not None:
        await add_circuit(pool, "d", "c", **circuit)
    before = await counts(pool)
    assert await _provision(pool) == NoTopLevelCircuit("d")
    assert await counts(pool) == before


async def test_a_depot_that_is_not_there_is_told(pool: Pool) -> None:
    assert await _provision(pool, "nowhere") == DepotNotFound("nowhere")
    assert (await counts(pool))["microgrid"] == 0


async def test_a_depot_whose_microgrid_is_retired_gets_a_new_one(pool: Pool) -> None:
    await add_circuit(pool, "d", "gc")
    first = await _made(pool)
    await pool.execute("UPDATE microgrid SET status = 'RETIRED'")
    second = await _made(pool)
    assert second.microgrid.microgrid_id != first.microgrid.microgrid_id
    assert second.microgrid.version == 1


async def test_many_at_once_make_one_microgrid_and_one_of_them_made_it(pool: Pool) -> None:
    await add_circuit(pool, "d", "gc")
    found = await asyncio.gather(*(_provision(pool) for _ in range(12)))
    assert all(isinstance(one, Provisioned) for one in found)
    provisioned = [one for one in found if isinstance(one, Provisioned)]
    assert [one.created for one in provisioned].count(True) == 1
    assert len({one.microgrid.microgrid_id for one in provisioned}) == 1
    assert (await counts(pool))["microgrid"] == 1
    assert len(await stored_events(pool)) == 1


async def test_a_second_live_microgrid_is_refused_by_the_database_itself(pool: Pool) -> None:
    await add_circuit(pool, "d", "gc")
    await _made(pool)
    with pytest.raises(asyncpg.UniqueViolationError, match="microgrid_one_live_per_depot"):
        await pool.execute(
            "INSERT INTO microgrid (microgrid_id, depot_id, version, status) "
            "VALUES (gen_random_uuid(), 'd', 1, 'NO_GRID_CONNECTION')"
        )


async def test_who_writes_a_microgrid_without_the_lock_meanwhile_is_found_by_a_second_look(pool: Pool) -> None:
    await add_circuit(pool, "d", "gc")
    async with pool.acquire() as console:
        transaction = console.transaction()
        await transaction.start()
        await console.execute(
            "INSERT INTO microgrid (microgrid_id, depot_id, version, status) VALUES (gen_random_uuid(), 'd', 7, 'ACTIVE')"
        )
        provisioning = asyncio.create_task(_provision(pool))
        await until_somebody_waits(console)
        await transaction.commit()
    found = await provisioning
    assert isinstance(found, Provisioned)
    assert (found.created, found.microgrid.version) == (False, 7)


async def test_other_depots_do_not_wait_for_one_that_is_being_changed(pool: Pool) -> None:
    await add_circuit(pool, "d", "gc")
    await add_circuit(pool, "e", "gc-e")
    async with pool.acquire() as holder, holder.transaction():
        await lock_depot(holder, "d")
        waiting = asyncio.create_task(_provision(pool, "d"))
        await until_somebody_waits(holder)
        await asyncio.wait_for(_made(pool, "e"), 60)
        assert not waiting.done()
    assert isinstance(await waiting, Provisioned)


async def test_what_the_caller_wrote_before_is_seen_and_goes_with_a_failure(pool: Pool) -> None:
    await add_depot(pool, "d")
    before = await counts(pool)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await add_circuit(connection, "d", "gc")
        made = await provision_within(connection, "d", now=_NOW, new_id=fresh_id)
        assert isinstance(made, Provisioned)
        await transaction.rollback()
    assert await counts(pool) == before


# Bindings


async def test_enabled_feeds_of_the_whole_site_become_bindings(pool: Pool) -> None:
    await add_circuit(pool, "d", "gc")
    await add_feed(pool, "d", "ctrl", "LIMIT_DER_EXPORT", "DER")
    await add_feed(pool, "d", "ctrl", "PEAK_SHAVING", "PEAK_SHAVING", enabled=False)
    made = await _made(pool)
    stored = await microgrid_of(pool)
    assert stored == made.microgrid
    assert [(p.device_id, p.capability, p.measurand, p.node_id, p.enabled, p.stale_after_s) for p in stored.control_points] == [
        ("ctrl", "DER", "LIMIT_DER_EXPORT", None, True, 300.0)
    ]
    provisioned, bound = await stored_events(pool)
    assert (provisioned.event_type, bound.event_type) == ("MicrogridProvisioned", "ControllerBindingCreated")
    assert bound.payload["control_point_id"] == stored.control_points[0].control_point_id


@pytest.mark.parametrize(("origin", "stays_enabled"), [("PROFILE", False), ("PERSON", True)])
async def test_of_two_devices_the_first_by_id_takes_a_capability(pool: Pool, origin: str, stays_enabled: bool) -> None:
    await add_circuit(pool, "d", "gc")
    second = await add_feed(pool, "d", "second", "DER", "DER", origin=origin)
    await add_feed(pool, "d", "first", "DER", "DER", origin=origin)
    asked = RemediationEntry("d", "second", "DER", "UPDATE_MICROGRID_STATE", "NO_BINDING", (), _NOW, _NOW, 1, second)
    async with pool.acquire() as connection:
        await put_remediation(connection, [asked])
    made = await _made(pool)
    assert [point.device_id for point in made.microgrid.control_points] == ["first"]
    enabled = {action.device_id: action.enabled for action in (await load(pool, "d")).sensor_actions}
    assert enabled == {"first": True, "second": stays_enabled}
    assert (await counts(pool))["remediation"] == (1 if stays_enabled else 0)


async def test_an_action_that_names_a_node_of_some_other_time_is_left_alone(pool: Pool) -> None:
    await add_circuit(pool, "d", "gc")
    await add_feed(pool, "d", "ctrl", "DER", "DER", node_id=fresh_id())
    before = (await load(pool, "d")).sensor_actions
    made = await _made(pool)
    assert made.microgrid.control_points == ()
    assert (await load(pool, "d")).sensor_actions == before


async def test_a_depot_loaded_as_an_old_system_left_it_ends_as_one_that_was_imported_whole(pool: Pool) -> None:
    def document(depot: str) -> SiteDocument:
        parsed = parse_site(
            {
                "depot": {"depot_id": depot, "name": "D", "timezone": "UTC"},
                "circuits": [{"circuit_id": f"{depot}-gc", "name": "GC"}],
                "gateways": [{"gateway_id": f"{depot}-gw", "name": "G"}],
                "devices": [
                    {"device_id": f"{depot}-ctrl", "gateway_id": f"{depot}-gw", "profile": "bba-microgrid-controller"},
                    {"device_id": f"{depot}-mon", "gateway_id": f"{depot}-gw", "profile": "sitepwrmon"},
                ],
            }
        )
        assert isinstance(parsed, SiteDocument), parsed
        return parsed

    assert isinstance(await import_site(pool, document("whole"), now=_NOW, new_id=fresh_id), SiteReport)
    assert isinstance(await import_site(pool, document("plain"), provision=False, now=_NOW, new_id=fresh_id), SiteReport)
    await _made(pool, "plain")
    whole, plain = [await load(pool, depot) for depot in ("whole", "plain")]

    def told(text: str | None) -> str | None:
        return text and text.partition("-")[2]

    def bindings(site: Site) -> set[object]:
        assert site.microgrid is not None
        return {(told(p.device_id), p.capability, p.measurand, p.enabled) for p in site.microgrid.control_points}

    def actions(site: Site) -> set[object]:
        return {(told(action.device_id), action.measurand, action.action, action.enabled) for action in site.sensor_actions}

    assert len(bindings(whole)) == 2
    assert bindings(plain) == bindings(whole)
    assert actions(plain) == actions(whole)
