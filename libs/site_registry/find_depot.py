"""Which depot a thing of the site model belongs to, by its id alone; and how a depot goes."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from event_store.database import Connection
from sensor_packet.identifiers import is_identifier
from site_registry.write import KINDS

_DEPOT_OF_BINDING = """
SELECT m.depot_id FROM capability_control_point p JOIN microgrid m USING (microgrid_id)
WHERE p.controller_binding_id = $1::text::uuid AND m.status <> 'RETIRED' LIMIT 1
"""


async def depot_of(connection: Connection, kind: str, identifier: str) -> str | None:
    """The depot of a thing of one of `write.KINDS`, of a `controller_binding`, or of a `depot` itself.

    None where there is none, or could be none.
    """
    if not is_identifier(identifier) or (kind in ("sensor_action", "controller_binding") and not _is_uuid(identifier)):
        return None
    if kind == "controller_binding":
        return await connection.fetchval(_DEPOT_OF_BINDING, identifier)
    if kind == "depot":
        return await connection.fetchval("SELECT depot_id FROM depot WHERE depot_id = $1", identifier)
    table = KINDS[kind]
    return await connection.fetchval(
        f"SELECT depot_id FROM {table.table} {table.depot_by} WHERE {table.key} = $1",  # noqa: S608 - names of ours
        identifier,
    )


async def gateway_of(connection: Connection, device_id: str) -> str | None:
    """The gateway that speaks for a device; None where there is no such device."""
    if not is_identifier(device_id):
        return None
    return await connection.fetchval("SELECT gateway_id FROM device WHERE device_id = $1", device_id)


def _is_uuid(text: str) -> bool:
    try:
        return len(text) == 36 and str(UUID(text)) == text.lower()
    except ValueError:
        return False


async def remove_depot(connection: Connection, depot_id: str, now: datetime) -> None:
    """Delete a depot in which nothing is left; its microgrid stays as `RETIRED`, with its nodes, for its history."""
    await connection.execute(
        "UPDATE microgrid SET status = 'RETIRED', updated_at = greatest(updated_at, $2) "
        "WHERE depot_id = $1 AND status <> 'RETIRED'",
        depot_id,
        now,
    )
    await connection.execute("DELETE FROM depot WHERE depot_id = $1", depot_id)
