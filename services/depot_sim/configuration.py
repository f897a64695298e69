"""What a depot's configuration says, as far as it matters to whoever plays its devices; made from the read API's documents.

A device's measurands come from its enabled sensor actions, and from the model outputs of its gateway, which the gateway's first
device sends. A device that sets a circuit's capacity is a controller and also reports its heartbeat and its fail-safe capacity,
which need no action. What a device's power and power state are about is found as routing finds it: the action's own power
source, else the one on the device's circuit (the grid supply left out), else the depot's battery, else the gateway's
translation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TO_SOURCE = ("UPDATE_POWER_SOURCE_STATE", "UPDATE_POWER_SOURCE_LOAD")
_ALWAYS_OF_A_CONTROLLER = ("HEARTBEAT_STATUS", "FAIL_SAFE_CAPACITY")
CAPACITY_ACTION = "UPDATE_CIRCUIT_CAPACITY"
CAPABILITY_ACTION = "UPDATE_MICROGRID_STATE"
RECORD_ACTION = "RECORD_MEASUREMENT"


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that a measurand does; `about` is the kind of power source it is about, None where there is no single one."""

    measurand: str
    action: str
    capability: str | None = None
    circuit_id: str | None = None
    about: str | None = None
    is_output: bool = False


@dataclass(frozen=True, slots=True)
class PlayedDevice:
    """A device that speaks: who it is, and what its values do."""

    device_id: str
    gateway_id: str
    circuit_id: str | None
    actions: tuple[Action, ...]

    @property
    def is_controller(self) -> bool:
        """Whether it sets a circuit's capacity."""
        return any(action.action == CAPACITY_ACTION for action in self.actions)

    @property
    def measurands(self) -> tuple[str, ...]:
        """What it sends, each once, in alphabetical order."""
        always = _ALWAYS_OF_A_CONTROLLER if self.is_controller else ()
        return tuple(sorted({*always, *(action.measurand for action in self.actions)}))

    def about(self, measurand: str) -> str | None:
        """The kind of power source that a measurand is about, None where none or several."""
        return next((action.about for action in self.actions if action.measurand == measurand and action.about), None)


@dataclass(frozen=True, slots=True)
class Depot:
    """A configured depot: its enabled devices by id, the circuits' safe capacities, how many power sources of each kind."""

    depot_id: str
    devices: tuple[PlayedDevice, ...]
    safe_capacity_kw: Mapping[str, float | None]
    top_level_circuits: tuple[str, ...]
    power_sources: Mapping[str, int]

    def controllers(self) -> list[PlayedDevice]:
        """The devices that set a circuit's capacity."""
        return [device for device in self.devices if device.is_controller]

    def circuit_of(self, controller: PlayedDevice) -> str | None:
        """The circuit whose capacity a controller sets, None where there is no single one."""
        named = next((one.circuit_id for one in controller.actions if one.action == CAPACITY_ACTION and one.circuit_id), None)
        only = self.top_level_circuits[0] if len(self.top_level_circuits) == 1 else None
        return named or controller.circuit_id or only


def depot_from(site: Mapping[str, Any], sensor_actions: Iterable[Mapping[str, Any]]) -> Depot:
    """The depot that a site document and the list of its sensor actions describe."""
    sources: Sequence[Mapping[str, Any]] = site.get("power_sources", ())
    gateways = {gateway["gateway_id"]: gateway for gateway in site.get("gateways", ())}
    by_device: dict[str, list[Mapping[str, Any]]] = {}
    for action in sensor_actions:
        if action["enabled"]:
            by_device.setdefault(action["device_id"], []).append(action)
    devices = [device for device in site.get("devices", ()) if device.get("enabled", True)]
    devices.sort(key=lambda device: device["device_id"])
    speaks_first: dict[str, str] = {}
    for device in devices:
        speaks_first.setdefault(device["gateway_id"], device["device_id"])
    played = [
        _device(
            device,
            gateways.get(device["gateway_id"], {}),
            by_device.get(device["device_id"], []),
            sources,
            is_first=speaks_first[device["gateway_id"]] == device["device_id"],
        )
        for device in devices
    ]
    kinds = [source["kind"] for source in sources]
    return Depot(
        site["depot"]["depot_id"],
        tuple(played),
        {circuit["circuit_id"]: circuit.get("safe_capacity_kw") for circuit in site.get("circuits", ())},
        tuple(one["circuit_id"] for one in site.get("circuits", ()) if one.get("parent_circuit_id") is None),
        {kind: kinds.count(kind) for kind in sorted(set(kinds))},
    )


def _device(
    device: Mapping[str, Any],
    gateway: Mapping[str, Any],
    sensor_actions: Sequence[Mapping[str, Any]],
    sources: Sequence[Mapping[str, Any]],
    *,
    is_first: bool,
) -> PlayedDevice:
    outputs: Mapping[str, str] = gateway.get("model_outputs") or {} if gateway.get("site_model_name") else {}
    translation: Mapping[str, str] = gateway.get("output_translation") or {}
    circuit_id: str | None = device.get("circuit_id")
    found = [
        Action(
            one["measurand"],
            one["action"],
            one.get("capability"),
            one.get("circuit_id"),
            _about(one["measurand"], one.get("power_source_id"), circuit_id, translation, sources)
            if one["action"] in _TO_SOURCE or one["action"] == RECORD_ACTION
            else None,
        )
        for one in sensor_actions
        if one["measurand"] not in outputs
    ]
    if is_first:
        found += [
            Action(key, action, about=_kind_of(translation.get(key), sources), is_output=True) for key, action in outputs.items()
        ]
    found.sort(key=lambda action: (action.measurand, action.action, action.capability or ""))
    return PlayedDevice(device["device_id"], device["gateway_id"], circuit_id, tuple(found))


def _about(
    measurand: str,
    explicit: str | None,
    circuit_id: str | None,
    translation: Mapping[str, str],
    sources: Sequence[Mapping[str, Any]],
) -> str | None:
    if explicit is not None:
        return _kind_of(explicit, sources)
    on_circuit = [one["kind"] for one in sources if circuit_id and one.get("circuit_id") == circuit_id and one["kind"] != "GRID"]
    candidates = on_circuit or [one["kind"] for one in sources if one["kind"] == "BATTERY"]
    if candidates:
        return candidates[0] if len(candidates) == 1 else None
    return _kind_of(translation.get(measurand), sources)


def _kind_of(power_source_id: str | None, sources: Sequence[Mapping[str, Any]]) -> str | None:
    return next((one["kind"] for one in sources if one["power_source_id"] == power_source_id), None)
