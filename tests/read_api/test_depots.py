"""Depots, microgrids and structures."""

from __future__ import annotations

import pytest
from tests.read_api.conftest import Reader
from tests.read_api.seed import MICROGRID, NODE_1, NODE_2, T0, bind, capability, put, run

from event_store.database import Pool


async def test_depots_page_by_cursor_in_order_of_their_ids(pool: Pool, reader: Reader) -> None:
    assert await reader.get("/api/depot") == {"items": [], "next": None}
    await run(pool, "INSERT INTO depot SELECT 'd-' || i, 'Depot ' || i, 'UTC' FROM generate_series(1, 7) AS i")
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await reader.get("/api/depot", limit=3, **cursor)
        seen += [one["depot_id"] for one in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == [f"d-{number}" for number in range(1, 8)]


@pytest.mark.usefixtures("site")
async def test_a_summary_tells_how_each_depot_is_doing(pool: Pool, reader: Reader) -> None:
    await run(pool, "INSERT INTO depot (depot_id, name, timezone) VALUES ('d-2', 'Empty', 'UTC')")
    await bind(pool, "PEAK_SHAVING")
    await bind(pool, "DER")
    await put(pool, capability("PEAK_SHAVING", True, T0))
    first, second = (await reader.get("/api/depot", include="summary"))["items"]
    assert first["microgrid_id"] == MICROGRID
    assert [one["freshness"] for one in first["summary"]["capabilities"]] == ["FRESH", "NEVER_REPORTED"]
    assert first["summary"]["freshness"] == "NEVER_REPORTED"
    assert second["summary"] == {"capabilities": [], "freshness": "NEVER_REPORTED", "remediation_count": 0, "dead_letter_count": 0}
    assert (await reader.get("/api/depot/d-1", include="summary")) == first
    assert (await reader.get("/api/depot/d-1"))["summary"] is None


@pytest.mark.usefixtures("site")
async def test_a_microgrid_is_found_by_depot_and_by_its_own_id(pool: Pool, reader: Reader) -> None:
    by_depot = await reader.get("/api/depot/d-1/microgrid")
    assert by_depot == await reader.get(f"/api/microgrid/{MICROGRID}")
    assert [(node["node_id"], node["kind"]) for node in by_depot["nodes"]] == [
        (NODE_1, "GRID_CONNECTION"),
        (NODE_2, "GRID_CONNECTION"),
    ]
    await run(pool, "UPDATE microgrid SET status = 'RETIRED'")
    await reader.problem("/api/depot/d-1/microgrid", 404, "MICROGRID_NOT_FOUND")
    assert (await reader.get(f"/api/microgrid/{MICROGRID}"))["status"] == "RETIRED"


@pytest.mark.usefixtures("site")
async def test_the_structure_is_the_tree_from_the_grid_connections_down(reader: Reader) -> None:
    structure = await reader.get("/api/depot/d-1/microgrid/structure")
    first, second = structure["grid_connections"]
    assert (first["node_id"], first["circuit"]["circuit_id"], second["circuit"]["circuits"]) == (NODE_1, "gc-1", [])
    (charger,) = first["circuit"]["circuits"]
    assert [one["connector_id"] for one in charger["charge_points"][0]["connectors"]] == ["cp-1-1", "cp-1-2"]
    assert [one["power_source_id"] for one in first["circuit"]["power_sources"]] == ["bess-1", "grid-1"]
    assert [one["power_source_id"] for one in structure["power_sources"]] == ["solar-1"]


@pytest.mark.usefixtures("site")
async def test_the_site_document_holds_what_is_configured(reader: Reader) -> None:
    document = await reader.get("/api/depot/d-1/site")
    assert document["depot"]["depot_id"] == "d-1"
    assert {one["circuit_id"] for one in document["circuits"]} == {"gc-1", "gc-2", "k-1"}
