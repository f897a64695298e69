"""A depot is loaded as it stands in the tables, every list in its order, and nothing of another depot with it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import fields

import asyncpg
import pytest
from tests.site_registry.depot_rows import ACTION_ID, CONTROL_POINT_ID, MICROGRID_ID, NODE_ID, delete_depot, insert_depot

from event_store.database import Connection, prepare_connection
from microgrid.site_model import (
    ChargePoint,
    Circuit,
    Connector,
    ControlPoint,
    Depot,
    Device,
    Gateway,
    Microgrid,
    Node,
    PowerSource,
    SensorAction,
    Site,
)
from site_registry.load import depot_of_device, depot_of_microgrid, list_depots, load_site, load_sites

WHOLE = Site(
    depot=Depot("depot", "Depot", "UTC"),
    circuits=(
        Circuit("depot-k", "depot-gc", "Below", 0),
        Circuit("depot-gc", None, "Grid connection", 1, safe_capacity_kw=30.0, rating_kw=500.0),
    ),
    charge_points=(ChargePoint("depot-cp", "depot-k", "Bay", 150.0),),
    connectors=(Connector("depot-cp-1", "depot-cp", 1),),
    power_sources=(PowerSource("depot-bess", "depot-gc", "BATTERY", "Battery", 250.0),),
    gateways=(Gateway("depot-gw", "Gateway", None, {}, {"GEN": "depot-bess"}),),
    devices=(Device("depot-dev", "depot-gw", "depot-gc", "generic", enabled=True),),
    sensor_actions=(SensorAction(ACTION_ID, "depot-dev", "DER", "UPDATE_MICROGRID_STATE", capability="DER", scale=0.5),),
    microgrid=Microgrid(
        MICROGRID_ID,
        3,
        "ACTIVE",
        (Node(NODE_ID, "depot-gc", "Grid connection", 1),),
        (ControlPoint(CONTROL_POINT_ID, None, "DER", "depot-dev", "DER", 120.0, enabled=True),),
    ),
)


@pytest.fixture
async def connection(database_url: str) -> AsyncGenerator[Connection]:
    opened = await asyncpg.connect(database_url)
    await prepare_connection(opened)
    yield opened
    await opened.close()


async def test_a_depot_is_loaded_with_everything_in_it(connection: Connection) -> None:
    await insert_depot(connection)
    assert await load_site(connection, "depot") == WHOLE


async def test_a_worker_does_not_hold_what_plays_no_part_in_routing(connection: Connection) -> None:
    await insert_depot(connection)
    loaded = await load_site(connection, "depot", with_assets=False)
    assert loaded is not None
    assert (loaded.charge_points, loaded.connectors) == ((), ())
    for name in (one.name for one in fields(Site) if one.name not in ("charge_points", "connectors")):
        assert getattr(loaded, name) == getattr(WHOLE, name)


async def test_several_depots_are_told_apart(connection: Connection) -> None:
    await insert_depot(connection)
    await insert_depot(connection, "other", 1)
    everything = await load_sites(connection, with_assets=True)
    assert list(everything) == ["depot", "other"]
    assert everything["depot"] == WHOLE
    assert {one.device_id for one in everything["other"].devices} == {"other-dev"}
    assert everything == await load_sites(connection, ["other", "depot", "nowhere"], with_assets=True)
    assert list(await load_sites(connection, ["other"])) == ["other"]


async def test_a_depot_that_does_not_exist_is_none(connection: Connection) -> None:
    assert await load_site(connection, "depot") is None
    assert await load_sites(connection, []) == {}


async def test_a_retired_microgrid_is_not_loaded(connection: Connection) -> None:
    await insert_depot(connection)
    await connection.execute("UPDATE microgrid SET status = 'RETIRED'")
    loaded = await load_site(connection, "depot")
    assert loaded is not None
    assert loaded.microgrid is None
    assert await depot_of_microgrid(connection, MICROGRID_ID) is None


async def test_a_depot_made_again_after_its_deletion_gets_nothing_of_its_former_microgrid(connection: Connection) -> None:
    await insert_depot(connection)
    await delete_depot(connection)
    await insert_depot(connection, number=1)
    loaded = await load_site(connection, "depot")
    assert loaded is not None
    assert loaded.microgrid is not None
    assert loaded.microgrid.microgrid_id != MICROGRID_ID
    assert len(loaded.microgrid.nodes) == len(loaded.microgrid.control_points) == 1


async def test_lists_are_in_the_order_of_their_ids_and_circuits_and_nodes_in_that_of_their_positions(
    connection: Connection,
) -> None:
    await insert_depot(connection)
    for name, position in (("b", 5), ("a", 5), ("C", 5), ("z", -1)):
        await connection.execute(
            "INSERT INTO circuit (circuit_id, depot_id, name, position) VALUES ($1, 'depot', $1, $2)", name, position
        )
        await connection.execute(
            "INSERT INTO microgrid_node (node_id, microgrid_id, source_circuit_id, name, position) "
            "VALUES (gen_random_uuid(), $1, $2, $2, $3)",
            MICROGRID_ID,
            name,
            position,
        )
        await connection.execute(
            "INSERT INTO power_source (power_source_id, depot_id, kind, name) VALUES ($1, 'depot', 'SOLAR', $1)", name
        )
    loaded = await load_site(connection, "depot")
    assert loaded is not None
    assert loaded.microgrid is not None
    assert [one.circuit_id for one in loaded.circuits] == ["z", "depot-k", "depot-gc", "C", "a", "b"]
    assert [one.source_circuit_id for one in loaded.microgrid.nodes] == ["z", "depot-gc", "C", "a", "b"]
    assert [one.power_source_id for one in loaded.power_sources] == ["C", "a", "b", "depot-bess", "z"]
    assert [one.circuit_id for one in loaded.top_level_circuits] == ["z", "depot-gc", "C", "a", "b"]


async def test_devices_and_microgrids_lead_to_their_depot(connection: Connection) -> None:
    await insert_depot(connection)
    assert await depot_of_device(connection, "depot-dev") == "depot"
    assert await depot_of_device(connection, "nobody") is None
    assert await depot_of_microgrid(connection, MICROGRID_ID) == "depot"


async def test_depots_are_listed_in_pages(connection: Connection) -> None:
    for number, depot_id in enumerate(("c", "a", "b")):
        await insert_depot(connection, depot_id, number)
    assert [one.depot_id for one in await list_depots(connection, limit=2)] == ["a", "b"]
    assert await list_depots(connection, limit=2, after="b") == [Depot("c", "Depot", "UTC")]
