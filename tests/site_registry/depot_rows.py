"""One depot as rows, with one of everything, put in by plain SQL as somebody with a console would."""

from __future__ import annotations

from event_store.database import Connection

MICROGRID_ID = "00000000-0000-7000-8000-0000000000aa"
NODE_ID = "00000000-0000-7000-8000-0000000000ab"
CONTROL_POINT_ID = "00000000-0000-7000-8000-0000000000ac"
ACTION_ID = "00000000-0000-7000-8000-000000000001"


async def insert_depot(connection: Connection, depot_id: str = "depot", number: int = 0) -> None:
    """A depot `depot_id` with its things named after it; `number` tells the UUIDs of several depots apart."""
    microgrid_id, node_id, point_id, action_id = (
        one[:-3] + f"{number:x}" + one[-2:] for one in (MICROGRID_ID, NODE_ID, CONTROL_POINT_ID, ACTION_ID)
    )
    d = depot_id
    await connection.execute(f"""
        INSERT INTO depot (depot_id, name, timezone) VALUES ('{d}', 'Depot', 'UTC');
        INSERT INTO circuit (circuit_id, depot_id, parent_circuit_id, name, position, safe_capacity_kw, rating_kw) VALUES
            ('{d}-k', '{d}', '{d}-gc', 'Below', 0, NULL, NULL), ('{d}-gc', '{d}', NULL, 'Grid connection', 1, 30, 500);
        INSERT INTO charge_point (charge_point_id, circuit_id, name, max_kw) VALUES ('{d}-cp', '{d}-k', 'Bay', 150);
        INSERT INTO connector (connector_id, charge_point_id, number, max_kw) VALUES ('{d}-cp-1', '{d}-cp', 1, NULL);
        INSERT INTO power_source (power_source_id, depot_id, circuit_id, kind, name, rated_kw)
            VALUES ('{d}-bess', '{d}', '{d}-gc', 'BATTERY', 'Battery', 250);
        INSERT INTO gateway (gateway_id, depot_id, name, site_model_name, model_outputs, output_translation)
            VALUES ('{d}-gw', '{d}', 'Gateway', NULL, '{{}}', '{{"GEN": "{d}-bess"}}');
        INSERT INTO device (device_id, depot_id, gateway_id, circuit_id, profile, enabled)
            VALUES ('{d}-dev', '{d}', '{d}-gw', '{d}-gc', 'generic', true);
        INSERT INTO sensor_action (sensor_action_id, depot_id, device_id, measurand, action, capability, scale)
            VALUES ('{action_id}', '{d}', '{d}-dev', 'DER', 'UPDATE_MICROGRID_STATE', 'DER', 0.5);
        INSERT INTO microgrid (microgrid_id, depot_id, version, status) VALUES ('{microgrid_id}', '{d}', 3, 'ACTIVE');
        INSERT INTO microgrid_node (node_id, microgrid_id, source_circuit_id, name, position)
            VALUES ('{node_id}', '{microgrid_id}', '{d}-gc', 'Grid connection', 1);
        INSERT INTO capability_control_point
            (control_point_id, microgrid_id, node_id, capability, device_id, measurand, stale_after_s, enabled)
            VALUES ('{point_id}', '{microgrid_id}', NULL, 'DER', '{d}-dev', 'DER', 120, true);
    """)


async def delete_depot(connection: Connection, depot_id: str = "depot") -> None:
    """All of a depot; its microgrid stays, retired."""
    d = depot_id
    await connection.execute(f"""
        DELETE FROM capability_control_point WHERE device_id = '{d}-dev';
        UPDATE microgrid SET status = 'RETIRED' WHERE depot_id = '{d}';
        DELETE FROM sensor_action WHERE depot_id = '{d}';
        DELETE FROM device WHERE depot_id = '{d}';
        DELETE FROM gateway WHERE depot_id = '{d}';
        DELETE FROM power_source WHERE depot_id = '{d}';
        DELETE FROM connector WHERE charge_point_id = '{d}-cp';
        DELETE FROM charge_point WHERE circuit_id = '{d}-k';
        DELETE FROM circuit WHERE depot_id = '{d}';
        DELETE FROM depot WHERE depot_id = '{d}';
    """)
