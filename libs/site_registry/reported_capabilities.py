"""What a device itself said that it measures, the last time that it said so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from event_store.database import Connection


@dataclass(frozen=True, slots=True)
class ReportedMeasurand:
    """One measurand that a device sends; `type` is `boolean`, `number` or `text`."""

    key: str
    type: str
    unit: str | None


async def reported_measurands(connection: Connection, device_id: str) -> tuple[ReportedMeasurand, ...] | None:
    """What the device said last, in its order; None where it never did."""
    stored = await connection.fetchval("SELECT measurands FROM device_capability WHERE device_id = $1", device_id)
    return None if stored is None else tuple(ReportedMeasurand(**one) for one in stored)


async def keep_reported(connection: Connection, device_id: str, measurands: Sequence[ReportedMeasurand], now: datetime) -> None:
    """Keep what a device says now, in place of what it said before."""
    await connection.execute(
        "INSERT INTO device_capability (device_id, measurands, reported_at) VALUES ($1, $2, $3) "
        "ON CONFLICT (device_id) DO UPDATE SET measurands = excluded.measurands, reported_at = excluded.reported_at",
        device_id,
        [asdict(one) for one in measurands],
        now,
    )
