"""Importing a site into a real database: all or nothing, once or many times, one by one or at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import uuid_utils
from hypothesis import HealthCheck, given, settings
from tests.site_registry.site_documents import site_documents

from event_store.database import Pool, open_pool
from microgrid.site_model import Site
from site_operations.import_site import SiteReport, import_site
from site_registry.load import load_site
from site_registry.site_file import SiteDocument, SiteFault, export_site, parse_site
from site_registry.site_yaml import write_document

_NOW = datetime(2026, 11, 20, 21, 0, tzinfo=UTC)
_EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
_COUNTED = ("site_change", "event_store", "event_outbox")


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, "test", max_size=6)
    yield opened
    await opened.close()


def _text(name: str) -> str:
    return (_EXAMPLES / name).read_text(encoding="utf-8")


def _id() -> str:
    return str(uuid_utils.uuid7())


def _parsed(given: Any) -> SiteDocument:
    parsed = parse_site(given)
    assert isinstance(parsed, SiteDocument), parsed
    return parsed


async def _try(pool: Pool, document: Any, **options: bool) -> SiteReport | list[SiteFault]:
    return await import_site(pool, _parsed(document), now=_NOW, new_id=_id, **options)


async def _import(pool: Pool, document: Any, **options: bool) -> SiteReport:
    report = await _try(pool, document, **options)
    assert isinstance(report, SiteReport), report
    return report


async def _site(pool: Pool, depot_id: str) -> Site:
    async with pool.acquire() as connection:
        site = await load_site(connection, depot_id)
    assert site is not None
    return site


async def _counts(pool: Pool) -> list[int]:
    return [await pool.fetchval(f"SELECT count(*) FROM {table}") for table in _COUNTED]


async def _event_types(pool: Pool) -> list[str]:
    rows = await pool.fetch("SELECT event_type FROM event_store ORDER BY transaction_id, global_position")
    return [row[0] for row in rows]


def _document(depot_id: str = "d", **lists: Any) -> dict[str, Any]:
    return {
        "depot": {"depot_id": depot_id, "name": "D", "timezone": "UTC"},
        "circuits": [{"circuit_id": f"{depot_id}-a", "name": "A", "position": 1}, {"circuit_id": f"{depot_id}-b", "name": "B"}],
        **lists,
    }


_BINDING: dict[str, Any] = {
    "gateways": [{"gateway_id": "g", "name": "G"}],
    "devices": [{"device_id": "v", "gateway_id": "g"}],
    "controller_bindings": [{"device_id": "v", "capabilities": [{"capability": "DER", "measurand": "DER"}]}],
}


async def test_the_example_is_stored_with_its_microgrid_and_events(pool: Pool) -> None:
    report = await _import(pool, _text("depot-1.yaml"))
    site = await _site(pool, "depot-1")
    assert site.microgrid is not None
    assert report.microgrid_id == site.microgrid.microgrid_id
    assert [(node.source_circuit_id, node.name) for node in site.microgrid.nodes] == [("gc-1", "Grid connection 1")]
    assert {(p.capability, p.device_id, p.measurand, p.stale_after_s) for p in site.microgrid.control_points} == {
        ("PEAK_SHAVING", "ctrl-1", "PEAK_SHAVING", 120.0),
        ("DER", "ctrl-1", "DER", 120.0),
    }
    assert await _event_types(pool) == ["MicrogridProvisioned", "ControllerBindingCreated", "ControllerBindingCreated"]
    rows = await pool.fetch("SELECT microgrid_id::text, observed_at, subject FROM event_store")
    assert {tuple(row) for row in rows} == {(report.microgrid_id, _NOW, None)}


@pytest.mark.parametrize("path", sorted(_EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
@pytest.mark.parametrize("prune", [False, True])
async def test_a_second_import_writes_nothing_at_all(pool: Pool, path: Path, prune: bool) -> None:
    text = _text(path.name)
    first = await _import(pool, text)
    before = await _counts(pool)
    second = await _import(pool, text, prune=prune)
    assert (second.created, second.changed, second.removed) == ({}, {}, {})
    assert second.left == first.created
    assert await _counts(pool) == before


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=site_documents())
async def test_what_is_exported_imports_without_a_change(pool: Pool, document: dict[str, Any]) -> None:
    # One depot takes all examples, one after the other, so that each also replaces another.
    await _import(pool, document, prune=True)
    written = export_site(await _site(pool, "d"))
    before = await _counts(pool)
    for given_again in (written, write_document(written)):
        for prune in (False, True):
            report = await _import(pool, given_again, prune=prune)
            assert (report.created, report.changed, report.removed) == ({}, {}, {})
    assert await _counts(pool) == before
    assert export_site(await _site(pool, "d")) == written


async def test_a_fault_leaves_nothing_behind(pool: Pool) -> None:
    await _import(pool, _document("other"))
    before = await _counts(pool)
    document = _document(circuits=[{"circuit_id": "mine", "name": "M"}, {"circuit_id": "other-a", "name": "A"}])
    faults = await _try(pool, document)
    assert isinstance(faults, list)
    assert [(fault.pointer, fault.code) for fault in faults] == [("/circuits/1/circuit_id", "ALREADY_EXISTS")]
    assert "belongs to depot other" in faults[0].detail
    assert await _counts(pool) == before
    assert await pool.fetchval("SELECT count(*) FROM depot") == 1


async def test_every_kind_of_id_is_refused_when_another_depot_has_it(pool: Pool) -> None:
    whole = _parsed(_text("depot-1.yaml"))
    await _import(pool, _text("depot-1.yaml"))
    text = _text("depot-1.yaml").replace("depot_id: depot-1", "depot_id: depot-2")
    faults = await _try(pool, text)
    assert isinstance(faults, list)
    lists = ("circuits", "charge_points", "connectors", "power_sources", "gateways", "devices")
    assert [fault.pointer.split("/")[1] for fault in faults] == [name for name in lists for _ in getattr(whole, name)]
    assert {fault.code for fault in faults} == {"ALREADY_EXISTS"}


async def test_a_depot_without_a_top_level_circuit_is_refused_and_not_stored(pool: Pool) -> None:
    faults = await _try(pool, _document(circuits=[]))
    assert isinstance(faults, list)
    assert [fault.code for fault in faults] == ["NO_TOP_LEVEL_CIRCUIT"]
    assert await pool.fetchval("SELECT count(*) FROM depot") == 0


async def test_without_provisioning_a_depot_is_as_an_old_system_left_it(pool: Pool) -> None:
    report = await _import(pool, _document(circuits=[], **_BINDING), provision=False)
    site = await _site(pool, "d")
    assert (report.microgrid_id, site.microgrid) == (None, None)
    assert [action.capability for action in site.sensor_actions] == ["DER"]
    assert await _event_types(pool) == []


async def test_importing_with_provisioning_afterwards_makes_microgrid_and_bindings(pool: Pool) -> None:
    await _import(pool, _document(**_BINDING), provision=False)
    await _import(pool, _document(**_BINDING))
    assert await _event_types(pool) == ["MicrogridProvisioned", "ControllerBindingCreated"]


async def test_nodes_follow_the_circuits_and_the_version_counts_set_and_order(pool: Pool) -> None:
    await _import(pool, _document())
    node_ids = {node.source_circuit_id: node.node_id for node in (await _site(pool, "d")).microgrid.nodes}  # pyright: ignore[reportOptionalMemberAccess]
    renamed = _document(circuits=[{"circuit_id": "d-a", "name": "Z", "position": 1}, {"circuit_id": "d-b", "name": "B"}])
    await _import(pool, renamed)
    reordered = _document(circuits=[{"circuit_id": "d-a", "name": "Z", "position": -1}, {"circuit_id": "d-b", "name": "B"}])
    await _import(pool, reordered)
    await _import(pool, _document(circuits=[{"circuit_id": "d-a", "name": "Z", "position": -1}]), prune=True)
    microgrid = (await _site(pool, "d")).microgrid
    assert microgrid is not None
    assert microgrid.version == 3
    assert [(node.node_id, node.name) for node in microgrid.nodes] == [(node_ids["d-a"], "Z")]
    assert await _event_types(pool) == [
        "MicrogridProvisioned",
        "GridConnectionRenamed",
        "GridConnectionsReordered",
        "GridConnectionRemoved",
    ]


async def test_only_pruning_removes_what_the_document_leaves_out(pool: Pool) -> None:
    whole = _text("depot-1.yaml")
    await _import(pool, whole)
    bare = {
        "depot": {"depot_id": "depot-1", "name": "Northside", "timezone": "Australia/Perth"},
        "circuits": [{"circuit_id": "gc-1", "name": "Grid connection 1", "position": 0, "rating_kw": 500}],
    }
    assert (await _import(pool, bare)).removed == {}
    report = await _import(pool, bare, prune=True)
    assert {kind: len(ids) for kind, ids in report.removed.items()} == {
        "circuit": 1,
        "charge_point": 1,
        "connector": 1,
        "power_source": 1,
        "gateway": 1,
        "device": 1,
        "sensor_action": 8,
        "control_point": 2,
    }
    assert (await _event_types(pool))[-2:] == ["ControllerBindingDeleted"] * 2
    report = await _import(pool, whole, prune=True)
    assert len(report.created["sensor_action"]) == 8


async def test_a_thing_moves_from_what_is_removed_in_the_same_import(pool: Pool) -> None:
    points: list[dict[str, Any]] = [{"charge_point_id": "p", "circuit_id": "d-a", "name": "P", "max_kw": 1}]
    await _import(pool, _document(charge_points=points))
    moved = _document(circuits=[{"circuit_id": "d-b", "name": "B"}], charge_points=[{**points[0], "circuit_id": "d-b"}])
    await _import(pool, moved, prune=True)
    assert [point.circuit_id for point in (await _site(pool, "d")).charge_points] == ["d-b"]


async def test_ownership_moves_in_one_import(pool: Pool) -> None:
    feeds = [{"capability": "DER", "measurand": "DER"}]
    devices = [{"device_id": "v", "gateway_id": "g"}, {"device_id": "w", "gateway_id": "g"}]

    def owned_by(owner: str) -> dict[str, Any]:
        bindings = [{"device_id": one, "enabled": one == owner, "capabilities": feeds} for one in ("v", "w")]
        return _document(gateways=_BINDING["gateways"], devices=devices, controller_bindings=bindings)

    for owner in ("v", "w", "v"):
        await _import(pool, owned_by(owner))
        point = (await _site(pool, "d")).microgrid.control_points  # pyright: ignore[reportOptionalMemberAccess]
        assert {one.device_id: one.enabled for one in point} == {"v": owner == "v", "w": owner == "w"}


async def test_what_no_longer_acts_needs_no_remediation(pool: Pool) -> None:
    actions: list[dict[str, Any]] = [{"device_id": "v", "measurand": name, "action": "RECORD_MEASUREMENT"} for name in ("A", "B")]
    await _import(pool, _document(**_BINDING, sensor_actions=actions))
    for name in ("A", "B"):
        await pool.execute(
            "INSERT INTO remediation (depot_id, device_id, measurand, action, code, candidates, first_at, last_at, count, "
            "sensor_action_id) SELECT 'd', 'v', $1, 'RECORD_MEASUREMENT', 'X', '[]', now(), now(), 1, sensor_action_id "
            "FROM sensor_action WHERE device_id = 'v' AND measurand = $1",
            name,
        )
    actions[0] = {**actions[0], "enabled": False}
    await _import(pool, _document(**_BINDING, sensor_actions=actions))
    assert [row[0] for row in await pool.fetch("SELECT measurand FROM remediation")] == ["B"]


async def test_imports_of_one_new_depot_at_once_make_one_microgrid(pool: Pool) -> None:
    reports = await asyncio.gather(*(_import(pool, _document(**_BINDING)) for _ in range(6)))
    assert len({report.microgrid_id for report in reports}) == 1
    assert sum(bool(report.created) for report in reports) == 1
    assert await _event_types(pool) == ["MicrogridProvisioned", "ControllerBindingCreated"]


async def test_changes_of_one_depot_at_once_count_one_by_one(pool: Pool) -> None:
    await _import(pool, _document())
    added = [_document(circuits=[{"circuit_id": f"d-new-{n}", "name": "N"}]) for n in range(6)]
    await asyncio.gather(*(_import(pool, document) for document in added))
    microgrid = (await _site(pool, "d")).microgrid
    assert microgrid is not None
    assert (microgrid.version, len(microgrid.nodes)) == (7, 8)


async def test_depots_that_claim_one_id_at_once_get_it_once(pool: Pool) -> None:
    shared = [{"circuit_id": "shared", "name": "S"}]
    results = await asyncio.gather(*(_try(pool, _document(f"d{n}", circuits=shared)) for n in range(6)))
    assert sum(isinstance(result, SiteReport) for result in results) == 1
    refused = [result for result in results if isinstance(result, list)]
    assert {fault.code for faults in refused for fault in faults} == {"ALREADY_EXISTS"}
    assert await pool.fetchval("SELECT count(*) FROM depot") == 1


async def test_an_import_does_not_wait_for_one_of_another_depot(pool: Pool) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('other', 7340117))")
        async with asyncio.timeout(60):
            await _import(pool, _document())
