"""A small depot to route in, and packets for it; each test changes only what it is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from microgrid.reporting import Step, report
from microgrid.routing import DevicePlan, plan_device
from microgrid.site_model import (
    Circuit,
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
from sensor_packet.decode import decode
from sensor_packet.packet import ClaimedIdentity, Packet

NOW = datetime(2026, 11, 20, 21, 0, 0, tzinfo=UTC)
ACTION_ID = "00000000-0000-7000-8000-000000000001"
SECOND_ACTION_ID = "00000000-0000-7000-8000-000000000002"
MICROGRID_ID = "00000000-0000-7000-8000-0000000000aa"
NODE_ID = "00000000-0000-7000-8000-0000000000ab"
CONTROL_POINT_ID = "00000000-0000-7000-8000-0000000000ac"

GRID = PowerSource("grid", "gc-1", "GRID", "Grid supply")
BATTERY = PowerSource("bess", None, "BATTERY", "Battery")
SECOND_BATTERY = PowerSource("bess-2", None, "BATTERY", "Second battery")
SOLAR = PowerSource("solar", None, "SOLAR", "Solar")


def on(circuit_id: str, source: PowerSource) -> PowerSource:
    return PowerSource(source.power_source_id, circuit_id, source.kind, source.name, source.rated_kw)


def action(kind: str, measurand: str, **fields: Any) -> SensorAction:
    fields.setdefault("sensor_action_id", ACTION_ID)
    return SensorAction(device_id="dev", measurand=measurand, action=kind, **fields)


def control_point(
    capability: str,
    device_id: str = "dev",
    *,
    node_id: str | None = None,
    enabled: bool = True,
    measurand: str | None = None,
) -> ControlPoint:
    """Fed by the measurand of the capability's name unless it says otherwise."""
    return ControlPoint(CONTROL_POINT_ID, node_id, capability, device_id, measurand or capability, 300.0, enabled)


def microgrid(*points: ControlPoint) -> Microgrid:
    return Microgrid(MICROGRID_ID, 1, "ACTIVE", (Node(NODE_ID, "gc-1", "Grid connection 1", 0),), points)


def site(
    *actions: SensorAction,
    sources: tuple[PowerSource, ...] = (),
    circuit_id: str | None = "gc-1",
    circuits: tuple[Circuit, ...] = (Circuit("gc-1", None, "Grid connection 1", 0, rating_kw=500.0),),
    gateway: Gateway | None = None,
    points: tuple[ControlPoint, ...] = (),
    with_microgrid: bool = True,
) -> Site:
    """A depot with one gateway and one device; its gateway has no site model unless one is given."""
    return Site(
        depot=Depot("depot", "Depot", "UTC"),
        circuits=circuits,
        power_sources=sources,
        gateways=(gateway or Gateway("gw", "Gateway"),),
        devices=(Device("dev", "gw", circuit_id, None, enabled=True),),
        sensor_actions=actions,
        microgrid=microgrid(*points) if with_microgrid else None,
    )


def plan(of: Site) -> DevicePlan:
    return plan_device(of, of.devices[0])


def packet(
    *measurands: dict[str, Any], sent_at: datetime = NOW, received_at: datetime = NOW, packet_id: str = "packet-1"
) -> Packet:
    """A packet of the device as the decoder gives it; measurands as they stand in JSON, times as datetimes."""
    body = {
        "schema_version": "1.0",
        "packet_id": packet_id,
        "gateway_id": "gw",
        "device_id": "dev",
        "sent_at": sent_at,
        "measurands": measurands,
    }
    decoded = decode(msgspec.json.encode(body), received_at=received_at, claimed=ClaimedIdentity("gw", "dev"))
    assert isinstance(decoded, Packet)
    return decoded


def steps(of: Site, *measurands: dict[str, Any], received_at: datetime = NOW, **times: Any) -> list[Step]:
    """What becomes of a packet with these measurands in a depot."""
    return report(packet(*measurands, received_at=received_at, **times), plan(of), received_at, {"source": "test"})


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)
