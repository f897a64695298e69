"""What a depot consists of, as the routing and the read pages see it.

These are the rows of the legacy electrical model together with the depot's microgrid and its control points, read-only and
without behaviour beyond looking things up. Identifiers of depots, circuits, devices, gateways and power sources are opaque
text; identifiers of our own (sensor action, microgrid, node, control point) are UUIDs as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

CAPABILITIES = ("PEAK_SHAVING", "DER")

UPDATE_POWER_SOURCE_STATE = "UPDATE_POWER_SOURCE_STATE"
UPDATE_POWER_SOURCE_LOAD = "UPDATE_POWER_SOURCE_LOAD"
UPDATE_MICROGRID_STATE = "UPDATE_MICROGRID_STATE"
UPDATE_CIRCUIT_CAPACITY = "UPDATE_CIRCUIT_CAPACITY"
RECORD_MEASUREMENT = "RECORD_MEASUREMENT"
ACTIONS = (
    UPDATE_POWER_SOURCE_STATE,
    UPDATE_POWER_SOURCE_LOAD,
    UPDATE_MICROGRID_STATE,
    UPDATE_CIRCUIT_CAPACITY,
    RECORD_MEASUREMENT,
)
MODEL_OUTPUT_ACTIONS = (UPDATE_POWER_SOURCE_STATE, UPDATE_POWER_SOURCE_LOAD)
POWER_SOURCE_KINDS = ("GRID", "BATTERY", "SOLAR", "GENERATOR")

DEFAULT_HEARTBEAT_TIMEOUT_S = 60.0
DEFAULT_STALE_AFTER_S = 300.0


@dataclass(frozen=True, slots=True)
class Depot:
    depot_id: str
    name: str
    timezone: str


@dataclass(frozen=True, slots=True)
class Circuit:
    circuit_id: str
    parent_circuit_id: str | None
    name: str
    position: int
    default_capacity_kw: float | None = None
    safe_capacity_kw: float | None = None
    rating_kw: float | None = None


@dataclass(frozen=True, slots=True)
class ChargePoint:
    charge_point_id: str
    circuit_id: str
    name: str
    max_kw: float


@dataclass(frozen=True, slots=True)
class Connector:
    connector_id: str
    charge_point_id: str
    number: int
    max_kw: float | None = None


@dataclass(frozen=True, slots=True)
class PowerSource:
    power_source_id: str
    circuit_id: str | None
    kind: str
    name: str
    rated_kw: float | None = None


@dataclass(frozen=True, slots=True)
class Gateway:
    gateway_id: str
    name: str
    site_model_name: str | None = None
    model_outputs: Mapping[str, str] = field(default_factory=dict[str, str])
    """Key of an output of the gateway's site model, to the action that it is."""
    output_translation: Mapping[str, str] = field(default_factory=dict[str, str])
    """Measurand, to the power source that it is about."""


@dataclass(frozen=True, slots=True)
class Device:
    device_id: str
    gateway_id: str
    circuit_id: str | None
    profile: str | None
    enabled: bool


@dataclass(frozen=True, slots=True)
class SensorAction:
    sensor_action_id: str
    device_id: str
    measurand: str
    action: str
    enabled: bool = True
    capability: str | None = None
    node_id: str | None = None
    power_source_id: str | None = None
    circuit_id: str | None = None
    heartbeat_timeout_s: float | None = None
    scale: float | None = None
    origin: str = "PERSON"
    """Who gave it, while nobody has changed it since: `PROFILE`, `REPORTED` (the device named the measurand), else `PERSON`."""


@dataclass(frozen=True, slots=True)
class Node:
    """A first-level node of a microgrid; its kind is always `GRID_CONNECTION`."""

    node_id: str
    source_circuit_id: str
    name: str
    position: int


@dataclass(frozen=True, slots=True)
class ControlPoint:
    """Which device owns one capability of one scope; `node_id` None is the whole site.

    The last two tell which controller binding shows it and as what version of that (`controller_bindings`); an empty id is one
    that is still to be given. They are no part of what the control point says, so equal points may differ in them.
    """

    control_point_id: str
    node_id: str | None
    capability: str
    device_id: str
    measurand: str
    stale_after_s: float
    enabled: bool
    controller_binding_id: str = field(default="", compare=False)
    binding_version: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Microgrid:
    microgrid_id: str
    version: int
    status: str
    nodes: tuple[Node, ...]
    control_points: tuple[ControlPoint, ...]


@dataclass(frozen=True)
class Site:
    """One depot with all that is configured in it; lists are ordered by id (circuits by position, then id)."""

    depot: Depot
    circuits: tuple[Circuit, ...] = ()
    charge_points: tuple[ChargePoint, ...] = ()
    connectors: tuple[Connector, ...] = ()
    power_sources: tuple[PowerSource, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    devices: tuple[Device, ...] = ()
    sensor_actions: tuple[SensorAction, ...] = ()
    microgrid: Microgrid | None = None

    @cached_property
    def power_source_by_id(self) -> dict[str, PowerSource]:
        return {source.power_source_id: source for source in self.power_sources}

    @cached_property
    def circuit_by_id(self) -> dict[str, Circuit]:
        return {circuit.circuit_id: circuit for circuit in self.circuits}

    @cached_property
    def gateway_by_id(self) -> dict[str, Gateway]:
        return {gateway.gateway_id: gateway for gateway in self.gateways}

    @cached_property
    def device_by_id(self) -> dict[str, Device]:
        return {device.device_id: device for device in self.devices}

    @cached_property
    def actions_by_device(self) -> dict[str, list[SensorAction]]:
        """Sensor actions of each device, ordered by `sensor_action_id`."""
        by_device: dict[str, list[SensorAction]] = {}
        for action in sorted(self.sensor_actions, key=lambda one: one.sensor_action_id):
            by_device.setdefault(action.device_id, []).append(action)
        return by_device

    @property
    def top_level_circuits(self) -> list[Circuit]:
        """Circuits without a parent, in their order (position, then id)."""
        return sorted((c for c in self.circuits if c.parent_circuit_id is None), key=lambda c: (c.position, c.circuit_id))

    def active_control_point(self, capability: str, node_id: str | None) -> ControlPoint | None:
        """The one enabled control point of a capability and scope, if there is one."""
        if self.microgrid is None:
            return None
        for point in self.microgrid.control_points:
            if point.enabled and point.capability == capability and point.node_id == node_id:
                return point
        return None
